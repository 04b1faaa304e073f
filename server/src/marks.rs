//! Marks while the server runs: each says, in the journal and then in the store, that the store has all that the journal
//! says before it. So a start has to look at the end of the journal only, and notices a store that went back in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use guestpass_core::time::Timestamp;
use tokio::sync::Mutex;

use crate::app::App;
use crate::journal::{Entry, Journal, Mark};
use crate::random::Random;
use crate::restore::{self, RestoreError};
use crate::store::{Store, Write};
use under_way::AllUnderWay;
pub(crate) use under_way::UnderWay;

mod under_way;

/// Holds what the marks of a node need, beside what requests share.
pub struct Marks {
    store: Arc<dyn Store>,
    journal: PathBuf,
    /// The time at which the store had last gone back.
    went_back_at: Option<Timestamp>,
    under_way: Arc<AllUnderWay>,
    /// One at a time: a mark that follows another says that the store has that one, too.
    making: Mutex<()>,
}

impl Marks {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        journal: PathBuf,
        went_back_at: Option<Timestamp>,
    ) -> Self {
        Self {
            store,
            journal,
            went_back_at,
            under_way: Arc::default(),
            making: Mutex::default(),
        }
    }

    /// Tells whether the store has gone back lately, as by a restore: its rows may then say less than what was answered.
    pub(crate) fn store_went_back(&self) -> bool {
        self.went_back_at.is_some()
    }

    /// Says that an erasure or revocation is about to be journaled: the next mark waits until the store has it.
    pub(crate) fn begin(&self) -> UnderWay {
        self.under_way.begin()
    }
}

impl App {
    /// Makes a mark: appends it to the journal, waits until the store has all that stands before it, and writes it to
    /// the store. What was journaled and could not be stored is carried out first.
    ///
    /// # Errors
    /// [`RestoreError`] if the journal or the store can't answer. Then a later mark, or the next start, makes up for it.
    pub async fn mark(&self) -> Result<(), RestoreError> {
        let _one_at_a_time = self.marks.making.lock().await;
        self.carry_out_given_up().await?;
        let (id, now) = (self.random.bytes(), self.clock.now());
        let lifetime = self.keys.now().longest_access_ttl();
        let mark = Mark {
            id,
            at: now,
            went_back_at: self.marks.went_back_at.filter(|at| *at + lifetime > now),
        };
        self.journal.append(Entry::Mark(mark)).await?;
        self.marks.under_way.settle().await;
        self.carry_out_given_up().await?;
        let write = Write::InsertMark(self.node.clone(), id, now);
        self.grants.write(write).await?;
        self.journal.append(Entry::MarkStored(id)).await?;
        Ok(())
    }

    /// Carries out what was journaled while the store could not answer, or for a request that ended meanwhile.
    async fn carry_out_given_up(&self) -> Result<(), RestoreError> {
        if !self.marks.under_way.take_given_up() {
            return Ok(());
        }
        let (store, journal) = (&*self.marks.store, &self.marks.journal);
        let keys = Arc::clone(&self.keys.now());
        let carry_out = async {
            let agreement = restore::agreement(store, journal).await?;
            let recorder = &self.recorder;
            restore::catch_up(store, journal, agreement.position, &keys, recorder).await
        };
        let done = carry_out
            .await
            .inspect_err(|_| self.marks.under_way.give_up())?;
        if (done.grants, done.access_tokens, done.guests, done.links) == (0, 0, 0, 0) {
            return Ok(());
        }
        tracing::warn!(
            grants = done.grants,
            access_tokens = done.access_tokens,
            guests = done.guests,
            links = done.links,
            "erasures, revocations and ends of links were carried out that the database could not take when they were asked for"
        );
        Ok(())
    }
}

/// Makes the first mark of a database that begins anew beside the journal of another: nothing of that is carried out.
///
/// # Errors
/// As [`App::mark`].
pub(crate) async fn agree_from_here(
    store: &dyn Store,
    journal: &Journal,
    node: &str,
    random: &dyn Random,
    now: Timestamp,
) -> Result<(), RestoreError> {
    let id = random.bytes();
    let mark = Mark {
        id,
        at: now,
        went_back_at: None,
    };
    journal.append(Entry::Mark(mark)).await?;
    store
        .write(Write::InsertMark(node.to_owned(), id, now))
        .await?;
    Ok(journal.append(Entry::MarkStored(id)).await?)
}

/// Makes marks for ever: when many entries follow the last one, once a minute, and soon if something has to be carried
/// out again.
pub(crate) async fn make(app: Arc<App>) {
    let mut pause = EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.journal.many_unmarked() => {}
            () = app.marks.under_way.given_up(), if pause == EVERY => {}
        }
        pause = match app.mark().await {
            Ok(()) => EVERY,
            Err(error) => {
                if pause == EVERY {
                    tracing::warn!(error = %error, "the journal could not be marked; this is tried again");
                }
                AFTER_ERROR
            }
        };
    }
}

/// The time between two marks: what a start has to look at again is at most what came in so long.
const EVERY: Duration = Duration::from_secs(60);

/// The time after which a mark that failed is tried again, and with it what waits to be carried out.
const AFTER_ERROR: Duration = Duration::from_secs(2);
