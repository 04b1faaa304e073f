//! Assigns functions to the stages of a request by their names.

/// Names a stage of a request.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stage {
    /// Routing, headers, forms, JSON.
    Http,
    /// The decisions of `guestpass_core`.
    Protocol,
    /// Signing, sealing and verifying tokens, but for the cryptography itself.
    Tokens,
    /// aws-lc.
    Crypto,
    /// SQLite and what is around it.
    Store,
    /// The log.
    Log,
    /// Tokio, threads and system calls.
    Runtime,
    /// Allocation, copying and comparing.
    Memory,
    #[default]
    Other,
}

impl Stage {
    pub(crate) const ALL: [Self; 9] = [
        Self::Http,
        Self::Protocol,
        Self::Tokens,
        Self::Crypto,
        Self::Store,
        Self::Log,
        Self::Runtime,
        Self::Memory,
        Self::Other,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Protocol => "protocol",
            Self::Tokens => "tokens",
            Self::Crypto => "crypto",
            Self::Store => "store",
            Self::Log => "log",
            Self::Runtime => "runtime",
            Self::Memory => "memory",
            Self::Other => "other",
        }
    }

    /// Returns the stage of a function, whose name is as callgrind writes it, in an object file.
    ///
    /// A function belongs to the first crate that its name mentions, but for the standard library. C has no crates: what
    /// isn't known by its prefix is SQLite's, which has hundreds of static functions of any name.
    pub(crate) fn of(function: &str, object: &str) -> Self {
        if let Some(stage) = paths(function).find_map(of_path) {
            return stage;
        }
        let starts_with_one_of =
            |prefixes: &[&str]| prefixes.iter().any(|p| function.starts_with(p));
        if function.contains("::") || function.starts_with("0x") {
            Self::Other
        } else if object.contains("/lib") || object.contains("/ld-") {
            match starts_with_one_of(LIBC_MEMORY) {
                true => Self::Memory,
                false => Self::Runtime,
            }
        } else if function.contains("aws_lc") || starts_with_one_of(AWS_LC) {
            Self::Crypto
        } else if function.starts_with("mi_") || function.starts_with("_mi_") {
            Self::Memory
        } else {
            Self::Store
        }
    }
}

/// Yields the paths in a name: `<tower::Oneshot as core::Future>::poll` has `tower::Oneshot`, `core::Future` and `::poll`.
fn paths(function: &str) -> impl Iterator<Item = &str> {
    function
        .split(|character: char| !(character.is_alphanumeric() || "_:".contains(character)))
        .filter(|path| path.contains("::"))
}

fn of_path(path: &str) -> Option<Stage> {
    let is_below = |prefix: &&str| {
        path.strip_prefix(*prefix)
            .is_some_and(|rest| rest.starts_with("::"))
    };
    PREFIXES
        .iter()
        .find(|(_, prefixes)| prefixes.iter().any(is_below))
        .map(|(stage, _)| *stage)
}

/// Lists crates and modules, those of one crate before the crate itself.
const PREFIXES: &[(Stage, &[&str])] = &[
    (Stage::Store, &["guestpass::store", "hashlink", "rusqlite"]),
    (
        Stage::Log,
        &[
            "guestpass::telemetry",
            "humantime",
            "tracing",
            "tracing_core",
            "tracing_subscriber",
        ],
    ),
    (Stage::Protocol, &["guestpass::grants", "guestpass_core"]),
    (
        Stage::Tokens,
        &[
            "base64",
            "guestpass::access_tokens",
            "guestpass::keys",
            "guestpass_verify",
        ],
    ),
    (Stage::Crypto, &["aws_lc_rs", "aws_lc_sys"]),
    (
        Stage::Http,
        &[
            "axum",
            "axum_core",
            "bytes",
            "form_urlencoded",
            "guestpass::http",
            "http",
            "http_body",
            "http_body_util",
            "matchit",
            "mime",
            "percent_encoding",
            "serde_core",
            "serde_json",
            "tower",
            "tower_layer",
            "tower_service",
        ],
    ),
    (
        Stage::Runtime,
        &[
            "futures_core",
            "futures_util",
            "std::sys",
            "std::thread",
            "tokio",
        ],
    ),
    (
        Stage::Memory,
        &["__rustc", "alloc::alloc", "alloc::raw_vec", "mimalloc"],
    ),
    (
        Stage::Other,
        &[
            "guestpass",
            "guestpass_bench",
            "fastbloom",
            "memchr",
            "prometheus_client",
            "uuid",
        ],
    ),
];

/// Lists prefixes of functions of aws-lc that lack the library's own.
const AWS_LC: &[&str] = &["AWS_LC", "GFMUL", "aead_", "chacha_", "sha256_"];

const LIBC_MEMORY: &[&str] = &[
    "__libc_calloc",
    "__libc_malloc",
    "__malloc",
    "__mem",
    "__str",
    "_int_",
    "alloc_",
    "calloc",
    "free",
    "malloc",
    "mem",
    "realloc",
    "str",
    "sysmalloc",
    "unlink_chunk",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_belongs_to_the_first_crate_that_it_mentions() {
        let program = "/target/debug/guestpass-bench";
        let cases = [
            ("guestpass::http::respond::finish", program, Stage::Http),
            ("guestpass::notes::request", program, Stage::Other),
            (
                "<alloc::vec::Vec<rusqlite::Row> as core::ops::drop::Drop>::drop",
                program,
                Stage::Store,
            ),
            (
                "<tower::util::Oneshot<S> as core::future::Future>::poll'2",
                program,
                Stage::Http,
            ),
            ("core::str::converts::from_utf8", program, Stage::Other),
            (
                "<alloc::raw_vec::RawVecInner>::finish_grow",
                program,
                Stage::Memory,
            ),
            (
                "aws_lc_0_47_0_sha256_block_data_order_avx",
                program,
                Stage::Crypto,
            ),
            ("walChecksumBytes", program, Stage::Store),
            ("mi_free", program, Stage::Memory),
            (
                "__memcpy_avx_unaligned_erms",
                "/usr/lib/libc.so.6",
                Stage::Memory,
            ),
            ("pwrite", "/usr/lib/libc.so.6", Stage::Runtime),
        ];
        for (function, object, stage) in cases {
            assert_eq!(Stage::of(function, object), stage, "{function}");
        }
    }
}
