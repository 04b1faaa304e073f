//! Connecting to the database: the choice among several hosts, and the check of their certificates.

use std::fs;

use super::installation::Installation;
use crate::support::binary::Binary;

#[test]
fn a_host_that_is_gone_is_passed_over() {
    let installation = Installation::new();
    let url = installation.url();
    let url = url.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:");
    installation.node_on("a", &url).serve().guest();
}

#[test]
fn a_host_that_nobody_trusted_vouches_for_is_refused() {
    let installation = Installation::new();
    let server = trusting(&installation, "127.0.0.1").serve();
    server.guest();
    let unencrypted = "
        select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
         where datname = current_database() and application_name = 'guestpass a' and not ssl";
    assert_eq!(installation.number(unencrypted), 0);
    let another_name = trusting(&installation, "localhost").failure(&["client", "list"]);
    assert!(
        another_name.contains("not valid for name"),
        "{another_name}"
    );
    let url = installation.url() + "&sslmode=verify-full";
    let unknown = installation.node_on("a", &url).failure(&["client", "list"]);
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}

/// Configures a node with the root certificate of the test's PostgreSQL, to be reached by a host name.
fn trusting(installation: &Installation, host: &str) -> Binary {
    let mut node = installation.node("a");
    let root = installation.sql("select pg_read_file('root.crt')");
    let file = node.working_dir().join("root.crt");
    fs::write(&file, root[0][0].as_ref().unwrap()).unwrap();
    let url = installation
        .url()
        .replace("@127.0.0.1:", &format!("@{host}:"));
    let url = format!("{url}&sslmode=verify-full&sslrootcert={}", file.display());
    node.set_variable("GUESTPASS_DATABASE", &url);
    node
}
