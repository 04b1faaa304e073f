//! The contract with the database, case by case: what anything that implements the traits of `store.rs` must do.
//!
//! A case sees only the traits. It runs on every backend that is named below, each time on an empty store.

use std::sync::Arc;
use std::time::Duration;

use guestpass::clock::Clock;
use guestpass::config::Config;
use guestpass::store::{
    Grants, Outcome, Proof, Redeemed, Redemption, Registry, Revoked, Transfer, Unavailable, Upkeep,
    Write,
};
use guestpass_core::client::{Change, ClientId, ClientNumber, ClientSettings};
use guestpass_core::customer::{CustomerId, Linking};
use guestpass_core::grant::{Decision, Generation, Grant, GrantId};
use guestpass_core::pkce::{Challenge, Verifier};
use guestpass_core::policy::Policy;
use guestpass_core::profile::{NetworkId, Profile, ProfileId};
use guestpass_core::time::Timestamp;

use crate::support::{Backend, Database, SeededRandom, WRONG_VERIFIER, config, sha256};

mod grants;
mod keys;
mod registry;
mod revoked;
mod transfer;
mod upkeep;

/// An empty store, by its contracts.
struct Store {
    grants: Arc<dyn Grants>,
    registry: Arc<dyn Registry>,
    revoked: Arc<dyn Revoked>,
    upkeep: Arc<dyn Upkeep>,
    transfer: Arc<dyn Transfer>,
    database: Database,
}

/// Every case, by the module that it stands in.
macro_rules! cases {
    ($($file:ident: $($case:ident)*;)*) => {
        macro_rules! run_on {
            ($backend:ident) => {
                mod $backend {
                    $(mod $file {
                        use crate::store_contract as contract;

                        $(#[tokio::test]
                        async fn $case() {
                            contract::$file::$case(&contract::$backend().await).await;
                        })*
                    })*
                }
            };
        }
    };
}

cases! {
    grants:
        what_was_never_written_is_not_there
        values_come_back_as_they_were
        a_taken_id_is_a_conflict_and_leaves_nothing
        a_credential_advances_its_grant_once
        an_advance_writes_what_a_decision_changes
        nothing_is_written_over_what_others_wrote_since_the_read
        a_revoked_grant_does_not_advance
        a_code_that_was_guessed_at_does_not_advance
        strikes_count_while_the_code_is_outstanding
        of_many_wrong_verifiers_at_once_no_more_are_judged_than_the_limit
        the_first_revocation_stands
        of_many_exchanges_of_a_code_one_advances
        a_redemption_is_decided_on_the_row_and_written
        a_redemption_that_is_refused_changes_nothing
        of_many_redemptions_one_advances_and_the_others_repeat
        redemptions_at_once_are_decided_on_their_own_rows
        a_row_that_cannot_be_read_leaves_the_others_of_its_batch_alone
        a_decision_that_panics_leaves_the_others_of_its_batch_alone
        a_write_that_fails_leaves_the_others_of_its_batch_alone
        a_guest_changes_from_the_version_before
        one_more_grant_needs_its_guest
        the_grants_of_neighbours_are_told_apart;
    keys:
        a_key_becomes_next_current_and_retiring_and_goes
        a_change_of_keys_that_does_not_fit_is_not_made
        of_two_changes_of_keys_at_once_one_is_made
        the_lifetime_of_a_sealing_key_passes_on;
    registry:
        a_client_is_read_as_it_was_added
        a_change_moves_the_revision_unless_it_fails
        a_taken_client_id_leaves_the_client_alone
        a_client_that_is_not_there_cannot_be_changed
        settings_change_one_by_one
        a_change_is_made_whole_or_not_at_all
        choices_are_made_and_taken_back
        a_client_that_resumes_is_confidential_and_has_no_origin
        choices_must_be_sound_over_the_defaults_if_that_is_asked
        api_keys_come_and_end
        a_removed_client_leaves_nothing
        a_client_number_is_never_used_again
        the_first_keys_are_inserted_once
        of_two_first_keys_at_once_one_stands
        it_is_known_whether_there_are_guests
        a_choice_of_a_newer_version_is_kept
        changes_of_clients_at_once_are_all_made;
    revoked:
        a_revoked_grant_is_listed_and_one_that_is_gone_counts_too
        a_revoked_access_token_is_listed_once
        what_a_list_lacks_is_told_at_once
        a_tombstone_moves_forward_and_never_back
        tombstones_are_read_with_their_times
        every_list_is_read_in_parts_without_a_gap
        what_is_forgotten_is_what_nobody_can_ask_about
        a_removed_guest_takes_its_grants_and_leaves_its_tombstone;
    transfer:
        a_copy_begins_in_a_new_store_and_no_other
        an_unfinished_copy_is_given_no_keys
        every_table_is_read_as_it_was_written
        a_part_takes_the_place_of_what_lies_between
        a_finished_copy_is_left_alone
        an_issuer_takes_the_place_of_the_one_that_was_expected
        guests_without_a_grant_are_added_once;
    upkeep:
        the_walk_sees_every_grant_once
        a_grant_has_ended_by_the_first_of_its_ends
        an_orphan_has_an_end_of_its_own
        a_grant_ends_with_its_client
        a_removal_looks_again
        an_orphan_goes_with_its_grant_and_a_redeemed_guest_stays
        a_removal_takes_what_it_names_and_no_more
        the_guests_of_a_customer_are_read_in_parts
        a_guest_is_shown_with_its_grants
        a_mark_may_be_kept_twice
        an_erased_guest_is_gone_and_the_others_stay
        the_check_counts_and_finds_nothing_wrong
        all_guests_are_read_in_parts
        live_grants_are_counted_by_when_they_were_last_used;
}

run_on!(sqlite);
run_on!(postgres);

async fn sqlite() -> Store {
    let unsynced = config(&[("sqlite.synchronous", "off")]);
    Store::empty(Backend::Sqlite, &unsynced).await
}

async fn postgres() -> Store {
    Store::empty(Backend::Postgres, &config(&[])).await
}

impl Store {
    async fn empty(backend: Backend, config: &Config) -> Self {
        let database = Database::new(backend, &SeededRandom::new()).await;
        let store = database.open(config).await;
        Self {
            grants: store.clone(),
            registry: store.clone(),
            revoked: store.clone(),
            upkeep: store.clone(),
            transfer: store,
            database,
        }
    }

    async fn write(&self, write: Write) -> Outcome {
        self.grants.write(write).await.unwrap()
    }

    /// Presents the outstanding credential of `grant`, a second after [`NOW`], and answers whether the stored grant has
    /// advanced.
    async fn advance(&self, grant: &Grant) -> bool {
        let redeemed = self.grants.redeem(advance(grant)).await.unwrap();
        redeemed.is_some_and(|redeemed| matches!(redeemed.decision, Decision::Advance(_)))
    }

    /// Presents the code of `grant` with a wrong verifier, and answers whether that was counted.
    async fn strike(&self, grant: &Grant) -> bool {
        let proof = Proof::Code(Verifier::parse(WRONG_VERIFIER).unwrap());
        let wrong = redemption(grant, proof, Stopped(at(1_000)));
        let redeemed = self.grants.redeem(wrong).await.unwrap();
        redeemed.is_some_and(|redeemed| matches!(redeemed.decision, Decision::Strike(_)))
    }

    /// Presents a refresh token, at a time.
    async fn refresh(
        &self,
        grant: &Grant,
        generation: Generation,
        now: Timestamp,
    ) -> Option<Redeemed> {
        self.try_refresh(grant, generation, now).await.unwrap()
    }

    /// The same, where the store may fail.
    async fn try_refresh(
        &self,
        grant: &Grant,
        generation: Generation,
        now: Timestamp,
    ) -> Result<Option<Redeemed>, Unavailable> {
        let proof = Proof::RefreshToken(generation);
        self.grants
            .redeem(redemption(grant, proof, Stopped(now)))
            .await
    }

    /// Links a guest as a client would, and returns it.
    async fn link(&self, profile: &Profile, customer: &CustomerId) -> Profile {
        let linking = profile.link_to(customer, ClientNumber(1), NOW).unwrap();
        let Linking::Link(next) = linking else {
            panic!("it is linked already");
        };
        let change = Write::ChangeProfile(next.clone(), None);
        assert_eq!(self.write(change).await, Outcome::Done);
        next
    }

    async fn insert(&self, (profile, grant): &(Profile, Grant)) {
        let insert = Write::InsertGuest(profile.clone(), grant.clone());
        assert_eq!(self.write(insert).await, Outcome::Done);
    }

    async fn load(&self, id: GrantId) -> Option<Grant> {
        self.grants.load(id).await.unwrap()
    }

    /// Adds the client that guests here are of: the first, so its number is 1.
    async fn add_the_client(&self) -> ClientId {
        let id: ClientId = "shop".parse().unwrap();
        let settings = ClientSettings::default();
        let add = Change::AddClient {
            id: id.clone(),
            settings,
            api_key: None,
            now: NOW,
        };
        self.registry.change(add).await.unwrap();
        id
    }

    /// Takes a guest's own row away and leaves its grants, as damage would.
    async fn lose_profile(&self, profile: &Profile) {
        let id = profile.id.as_i64();
        let delete = format!("delete from profiles where profile_id = {id}");
        self.database.sql(&delete).await;
    }

    /// Counts guests and grants.
    async fn counts(&self) -> (u64, u64) {
        let report = self.upkeep.check().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        (report.profiles, report.grants)
    }
}

/// A clock that shows one time.
struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        assert_ne!(self.0, BROKEN, "a test asked for this panic");
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A time at which a clock panics, as a defect in a decision would.
const BROKEN: Timestamp = Timestamp::from_millis(-1);

/// The time at which everything here begins.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn at(millis_after: i64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() + millis_after)
}

/// A guest whose code is outstanding. Guests with a higher number come later in the order of keys.
fn guest(number: u8) -> (Profile, Grant) {
    let profile = Profile::new(
        ProfileId::from_i64(i64::from(number) + 1).unwrap(),
        NetworkId::from_bytes([number; 16]),
        ClientNumber(1),
        NOW,
    );
    let grant = Grant {
        id: GrantId::new(profile.id, [number; 8]),
        client: profile.client,
        network_id: profile.network_id,
        challenge: Challenge::from_bytes(sha256(verifier(profile.id).as_bytes())),
        generation: Generation::CODE,
        proven: Generation::CODE,
        strikes: 0,
        issued_at: NOW,
        advanced_at: NOW,
        expires_at: at(60_000),
        ends_at: at(1_000_000),
        revoked: None,
        copied: None,
    };
    (profile, grant)
}

/// The verifier behind the challenges of a guest's codes.
fn verifier(guest: ProfileId) -> String {
    format!("{:0>43}", guest.as_i64())
}

/// Presents the outstanding credential of `grant`, a second after [`NOW`].
fn advance(grant: &Grant) -> Redemption {
    let proof = if grant.generation == Generation::CODE {
        Proof::Code(Verifier::parse(&verifier(grant.id.profile)).unwrap())
    } else {
        Proof::RefreshToken(grant.generation)
    };
    redemption(grant, proof, Stopped(at(1_000)))
}

fn redemption(grant: &Grant, proof: Proof, clock: impl Clock + 'static) -> Redemption {
    let policy = Policy {
        refresh_idle: Duration::from_secs(499),
        ..Policy::default()
    };
    Redemption {
        grant: grant.id,
        proof,
        client: grant.client,
        policy: Arc::new(policy),
        clock: Arc::new(clock),
    }
}

/// The grant as [`advance`] leaves it.
fn advanced(grant: &Grant) -> Grant {
    Grant {
        generation: grant.generation.next(),
        proven: grant.generation,
        advanced_at: at(1_000),
        expires_at: at(500_000),
        ..grant.clone()
    }
}
