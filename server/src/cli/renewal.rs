//! A certificate that others renew, read again while the server runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;

use crate::app::App;
use crate::config::Certificate;

/// Reads the certificate again on each SIGHUP, and each minute. Without one, SIGHUP has no effect, and ends nothing.
pub(super) async fn renew(
    app: Arc<App>,
    certificate: Option<Arc<Certificate>>,
    mut hangup: Signal,
) {
    let note = |certificate: &Certificate| {
        let not_after = certificate.not_after();
        not_after.inspect(|not_after| app.metrics.note_certificate(*not_after));
    };
    if let Some(certificate) = &certificate {
        note(certificate);
    }
    let mut said = None;
    loop {
        let is_asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let Some(certificate) = &certificate else {
            if is_asked {
                tracing::info!("SIGHUP: there is no certificate to read again");
            }
            continue;
        };
        let reading = Arc::clone(certificate);
        // On a thread of its own: the files may be on a disk that hangs.
        let Ok(renewed) = tokio::task::spawn_blocking(move || reading.renew()).await else {
            continue;
        };
        match renewed {
            Ok(is_another) => {
                said = None;
                note(certificate);
                if is_asked || is_another {
                    tracing::info!(is_another, "the certificate was read again");
                }
            }
            Err(error) => {
                let problem = error.to_string();
                // Once, and not each minute.
                if is_asked || said.as_ref() != Some(&problem) {
                    tracing::error!(
                        "the certificate was not read again, and the one in use stays: {problem}"
                    );
                }
                said = Some(problem);
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
