//! Without an issuer: on PostgreSQL that is refused wherever a server listens.

use super::*;

#[test]
fn a_socket_that_is_no_address_needs_an_issuer() {
    let mut binary = Binary::new();
    for listen in ["unix:./socket", "systemd"] {
        binary.set_variable("GUESTPASS_LISTEN", listen);
        for command in ["config check", "serve"] {
            let problem = binary.failure(&command.split(' ').collect::<Vec<_>>());
            for hint in [listen, "needs a fixed issuer", "--issuer https://"] {
                assert!(problem.contains(hint), "{problem}");
            }
        }
        binary.clear_variable("GUESTPASS_LISTEN");
    }
}
