//! Connecting to the database: the choice among several hosts, and the check of their certificates.

use std::fs;

use axum::http::StatusCode;

use super::installation::Installation;
use crate::support::authorize;
use crate::support::binary::{Binary, eventually};
use crate::support::certified::Certified;

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

#[test]
fn f56_sighup_takes_over_the_password_and_the_authorities_of_the_database() {
    let installation = Installation::new();
    let role = format!("renewed_{}", std::process::id());
    let login = format!("role {role} superuser login password");
    installation.sql(&format!("create {login} 'old'"));
    let mut node = installation.node("a");
    let url = trusting_url(&installation, &node, "127.0.0.1");
    let (_, place) = url.split_once('@').unwrap();
    node.set_variable("GUESTPASS_DATABASE", &format!("postgres://{role}@{place}"));
    node.set_variable("GUESTPASS_POSTGRES__PASSWORD_FILE", "./password");
    let [password, root] = ["password", "root.crt"].map(|name| node.working_dir().join(name));
    fs::write(&password, "old\n").unwrap();
    let server = node.serve();
    let serves = || server.send(&authorize()).status == StatusCode::OK;
    // Connections that are open stay, so they are ended first.
    let refuses_anew = || {
        installation.sql(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'"
        ));
        !serves()
    };
    let hang_up = || server.signal("HUP");

    installation.sql(&format!("alter {login} 'new'"));
    assert!(serves());
    eventually("the old password opens nothing", || {
        refuses_anew() && !serves()
    });
    fs::write(&password, "new\n").unwrap();
    hang_up();
    eventually("the new password does", serves);

    let right = fs::read(&root).unwrap();
    let kept = "the configuration was not read again";
    fs::write(&root, "no certificate").unwrap();
    hang_up();
    eventually(kept, || server.log().contains(kept));
    refuses_anew();
    eventually("the authorities that were read stay", serves);
    fs::copy(Certified::new().file("root.crt"), &root).unwrap();
    hang_up();
    eventually("others don't vouch for it", || refuses_anew() && !serves());
    fs::write(&root, right).unwrap();
    hang_up();
    eventually("the right ones do", serves);
    assert_eq!(server.stop().code(), Some(0));
    installation.sql(&format!("drop role {role}"));
}

/// Configures a node with the root certificate of the test's PostgreSQL, to be reached by a host name.
fn trusting(installation: &Installation, host: &str) -> Binary {
    let mut node = installation.node("a");
    let url = trusting_url(installation, &node, host);
    node.set_variable("GUESTPASS_DATABASE", &url);
    node
}

/// Writes the root certificate of the test's PostgreSQL into the node's directory. Returns the URL with it and a host name.
fn trusting_url(installation: &Installation, node: &Binary, host: &str) -> String {
    let root = installation.sql("select pg_read_file('root.crt')");
    let file = node.working_dir().join("root.crt");
    fs::write(&file, root[0][0].as_ref().unwrap()).unwrap();
    let url = installation
        .url()
        .replace("@127.0.0.1:", &format!("@{host}:"));
    format!("{url}&sslmode=verify-full&sslrootcert={}", file.display())
}
