//! Paths of URLs under which something is served.

/// Parses prefixes separated by commas. `/` is the root, which is the empty prefix.
pub(super) fn base_paths(text: &str) -> Result<Vec<String>, String> {
    let mut paths: Vec<String> = text
        .split(',')
        .map(|path| path.trim().trim_end_matches('/').to_owned())
        .collect();
    paths.sort();
    paths.dedup();
    if !paths.iter().all(|path| is_plain_path(path)) {
        return Err(
            "write paths that start with a slash and are made of letters, digits and -._~, separated by commas, for \
             example /,/api"
                .to_owned(),
        );
    }
    if paths.iter().any(|path| is_well_known(path)) {
        return Err(format!(
            "{WELL_KNOWN} is where clients look for the metadata; write another path, for example /api"
        ));
    }
    Ok(paths)
}

/// The path of the documents that others look for (RFC 8615).
pub(super) const WELL_KNOWN: &str = "/.well-known";

/// Tells whether a path is [`WELL_KNOWN`] or lies under it.
pub(super) fn is_well_known(path: &str) -> bool {
    path.strip_prefix(WELL_KNOWN)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Tells whether a path is empty or made of segments that are the same in every spelling, behind slashes: the router takes
/// nothing in them for a pattern, and no client changes them on their way.
pub(super) fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut segments = path.split('/');
    segments.next() == Some("")
        && segments
            .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f22_a_base_path_is_a_path_that_can_be_served() {
        assert_eq!(
            base_paths("/, /api/,/v1/x,/api").unwrap(),
            ["", "/api", "/v1/x"]
        );
        for text in [
            "api",
            "/:x",
            "/*x",
            "/{x}",
            "/a//b",
            "/a/../b",
            "/.",
            "/a b",
            "/a?b",
            "/%61",
            "/.well-known",
            "/.well-known/oauth-authorization-server",
        ] {
            let problem = base_paths(text).unwrap_err();
            assert!(problem.contains("for example /"), "{text}: {problem}");
        }
    }
}
