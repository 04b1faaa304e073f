//! Every setting there is.

/// A setting that exists.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) about: &'static str,
}

pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "data_dir",
        "./guestpass-data",
        "directory of the embedded store and the master key, unless database or master_key_file say otherwise",
    ),
    setting(
        "listen",
        "127.0.0.1:8080",
        "where the public API listens: ADDRESS:PORT; unix:PATH, a Unix socket for a proxy on this machine; or systemd, the \
         socket that a socket unit hands over",
    ),
    setting(
        "keep_alive",
        "75s",
        "how long a connection may be idle between two requests; longer than a proxy in front keeps its idle connections",
    ),
    setting(
        "connections_per_address",
        "256",
        "how many connections one address may have, an IPv6 network of 64 bits counting as one; trusted proxies have any number; or off",
    ),
    setting(
        "trusted_proxies",
        "",
        "addresses and networks of the proxies in front, separated by commas: from them and on a Unix socket alone Forwarded or X-Forwarded-For is read",
    ),
    setting(
        "drain.delay",
        "0s",
        "how long a server that was told to end still accepts connections, so that balancers hear of it: 5s behind one",
    ),
    setting(
        "tls.certificate_file",
        "",
        "PEM file with the certificate of the public API and its chain; it then speaks TLS and nothing else",
    ),
    setting(
        "tls.key_file",
        "",
        "PEM file with the private key of the certificate; both files are read at start, each minute, and on SIGHUP",
    ),
    setting(
        "issuer",
        "",
        "`iss` of every token, the same on every node; on one node on loopback it follows from `listen` and `tls.…` until it is set. Its path, if it has one, moves no endpoint: see base_paths",
    ),
    setting(
        "base_paths",
        "/,/api",
        "where /oauth/… is served, separated by commas",
    ),
    setting(
        "admin_listen",
        "",
        "address of the operators' API; off by default",
    ),
    setting(
        "admin.hosts",
        "",
        "names by which the operators' API is called, beside localhost and its address, separated by commas",
    ),
    setting(
        "admin.token_file",
        "",
        "file with the bearer token that the metrics ask for; needed where others can reach admin_listen",
    ),
    setting(
        "admin.tls",
        "off",
        "on: the operators' API speaks TLS with the certificate of the public API; in-front: a proxy does; off: only on loopback",
    ),
    setting(
        "public_health",
        "true",
        "false answers /livez and /readyz on admin_listen alone",
    ),
    setting(
        "database",
        "",
        "sqlite:PATH or postgres://USER@HOST:PORT,…/NAME; by default guestpass.db in the data directory",
    ),
    setting(
        "master_key",
        "",
        "32 bytes as base64, from the environment only; else see master_key_file",
    ),
    setting(
        "master_key_file",
        "",
        "file with the master key, the same on every node; by default master.key in the data directory",
    ),
    setting(
        "sqlite.synchronous",
        "full",
        "full, or off to measure what syncing costs: a power cut then loses guests",
    ),
    setting(
        "postgres.password_file",
        "",
        "file with the password, unless the URL has it; read at start and on SIGHUP",
    ),
    setting(
        "postgres.connections",
        "16",
        "how many connections a node may have",
    ),
    setting(
        "postgres.batch",
        "64",
        "how many waiting writes may travel as one statement; 1 for engines that spread guests over machines",
    ),
    setting(
        "journal",
        "",
        "file outside the database that repeats every erasure and revocation; by default guestpass.journal in the data \
         directory",
    ),
    setting(
        "node",
        "",
        "what this node is called in request ids; by default the host's name",
    ),
    setting(
        "keys.rotate_every",
        "off",
        "how often the key that signs access tokens changes by itself, or off",
    ),
    setting(
        "keys.jwks_max_age",
        "5m",
        "how long verifiers may keep the key set: a new key waits as long before it signs, and they trust a removed one as long",
    ),
    setting(
        "tokens.algorithm",
        "HS256",
        "how access tokens are signed: HS256, ES256, EdDSA or RS256",
    ),
    setting("tokens.audience", "", "stands before the issuer in `aud`"),
    setting(
        "tokens.query_params",
        "true",
        "whether token parameters may come in the query, as existing clients send them",
    ),
    setting("tokens.access_ttl", "24h", "lifetime of an access token"),
    setting("tokens.code_ttl", "60s", "lifetime of a code, at most 10m"),
    setting(
        "tokens.grace",
        "30s",
        "how long a retried refresh gets the same answer again, at most 5m",
    ),
    setting(
        "tokens.late_retry",
        "reissue",
        "what a retry gets after that: reissue or revoke",
    ),
    setting(
        "tokens.max_unproven",
        "8",
        "how many times in a row a late retry is reissued before two parties are assumed",
    ),
    setting(
        "tokens.refresh_idle",
        "365d",
        "how long an unused refresh token works",
    ),
    setting(
        "tokens.refresh_max",
        "5y",
        "how long a guest stays recognised at most",
    ),
    setting(
        "limits.mode",
        "enforce",
        "what becomes of requests beyond the limits: enforce (429), monitor (they are counted and served), or off",
    ),
    setting(
        "limits.guests_per_address",
        "1000/2m",
        "how many new guests one address may bring: as many at once, and as many more in that time; or off",
    ),
    setting(
        "limits.guests_per_client",
        "off",
        "how many new guests one client may bring",
    ),
    setting(
        "limits.failures_per_address",
        "1000/2m",
        "how many wrong keys, codes, verifiers and tokens one address may show",
    ),
    setting(
        "limits.endings_per_address",
        "1000/2m",
        "how many revocations and erasures one address may ask for",
    ),
    setting(
        "limits.endings_per_grant",
        "30/1h",
        "how many access tokens of one grant may be revoked; one more ends the grant",
    ),
    setting(
        "limits.introspections_per_client",
        "off",
        "how many introspections one client may ask for",
    ),
    setting(
        "verify.max_staleness",
        "10s",
        "how old a node's knowledge of revocations may be when it answers /oauth/verify",
    ),
    setting(
        "verify.when_stale",
        "refuse",
        "what /oauth/verify does when it is older: refuse (503), or signature-only",
    ),
    setting(
        "verify.untyped",
        "false",
        "whether tokens of an earlier issuer are good, whose header says typ JWT or nothing",
    ),
    setting(
        "erasure.keep",
        "10y",
        "how long a tombstone keeps an erased guest from coming back: longer than any backup is kept",
    ),
    setting(
        "cleaning.start_after",
        "1h",
        "how long after its start a node begins to clean; a clock that is wrong at boot is right by then",
    ),
    setting(
        "cleaning.orphans",
        "1d",
        "how long a guest whose code was never redeemed is kept after the code has expired",
    ),
    setting(
        "events.record",
        "",
        "whether what becomes of guests is recorded for `guestpass events` and the webhook; by default true with a url",
    ),
    setting(
        "events.url",
        "",
        "where the webhook sends them: https, or http on loopback",
    ),
    setting(
        "events.secret_file",
        "",
        "file with the secret that signs them, as `guestpass events secret` makes it; two lines while one takes the other's place; read at start and on SIGHUP",
    ),
    setting(
        "events.keep",
        "30d",
        "how long they are kept, delivered or not, at least 7d",
    ),
    setting(
        "retention.idle",
        "off",
        "how long after it was last here a guest is forgotten who has no grant left, at least 30d, or off",
    ),
    setting(
        "retention.idle_linked",
        "off",
        "the same for guests who are linked to a customer",
    ),
    setting(
        "core_dumps",
        "false",
        "whether a crash may leave a core dump, which holds every key, and debuggers may attach",
    ),
    setting("log.level", "info", "error, warn, info, debug or trace"),
    setting("log.format", "text", "text or json"),
    setting(
        "log.repeats",
        "100/1s",
        "how many lines of one kind are written in which time before they are only counted, or off",
    ),
];

const fn setting(name: &'static str, default: &'static str, about: &'static str) -> Setting {
    Setting {
        name,
        default,
        about,
    }
}
