//! The URL of a database, taken apart as libpq does (PostgreSQL's manual, 34.1.1.2) before a library sees it. No error
//! quotes any of it: what was meant as a password may stand anywhere.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The URL of a database: the parts before its query as they are, and the decoded parameters of the query.
pub(super) struct DatabaseUrl<'a> {
    /// Scheme, user, password, hosts and name, still encoded.
    pub(super) address: &'a str,
    /// Names and values, decoded once.
    pub(super) parameters: Vec<(String, String)>,
}

impl<'a> DatabaseUrl<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, String> {
        const SHAPE: &str = "write postgres://USER@HOST:PORT/NAME";
        let scheme = ["postgres://", "postgresql://"]
            .into_iter()
            .find(|scheme| url.starts_with(scheme))
            .ok_or(SHAPE)?;
        let rest = &url[scheme.len()..];
        // The user and the password end at the first @, unless that stands in the path or the query.
        let user = match rest.find(['@', '/']) {
            Some(at) if rest[at..].starts_with('@') => &rest[..at],
            _ => "",
        };
        decoded(user)?;
        let after_user = &rest[user.len()..];
        let (place, query) = after_user.split_once('?').unwrap_or((after_user, ""));
        let place = place.strip_prefix('@').unwrap_or(place);
        let (hosts, name) = place.split_once('/').unwrap_or((place, ""));
        let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:,[]%".contains(&byte);
        if !hosts.bytes().all(is_of_hosts) || name.contains(['/', '@', '#']) {
            return Err(format!(
                "{SHAPE}. In the password write % as %25, @ as %40, / as %2F, : as %3A, ? as %3F and # as %23, or put it \
                 into a file and name that: postgres.password_file"
            ));
        }
        decoded(hosts)?;
        decoded(name)?;
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let parameters = parameters.map(|parameter| {
            let (name, value) = parameter.split_once('=').ok_or(
                "each parameter of the query is NAME=VALUE, for example sslrootcert=/etc/ssl/db-ca.pem",
            )?;
            Ok((decoded(name)?, decoded(value)?))
        });
        Ok(Self {
            address: &url[..url.len() - after_user.len() + place_end(after_user)],
            parameters: parameters.collect::<Result<_, String>>()?,
        })
    }

    /// Writes the URL anew, with those parameters for a query.
    pub(super) fn with_query(&self, parameters: &[(String, String)]) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        format!("{}?{}", self.address, parameters.join("&"))
    }

    /// Tells whether the query has that parameter.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(own, _)| own == name)
    }
}

fn place_end(after_user: &str) -> usize {
    after_user.find('?').unwrap_or(after_user.len())
}

/// Tells whether a text looks like the URL of a database with a password, however it is spelled.
pub(crate) fn may_hold_password(text: &str) -> bool {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let before_host = after_scheme.rsplit_once('@').map(|(user, _)| user);
    before_host
        .is_some_and(|user| user.contains(':') || user.contains("%3A") || user.contains("%3a"))
        || ["password=", "passwd=", "pwd="]
            .iter()
            .any(|name| text.contains(name))
}

/// Decodes percent-encoding, once. As libpq, it refuses a `%` that begins none, and an encoded NUL.
fn decoded(text: &str) -> Result<String, String> {
    let is_encoded = |after: &str| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return Err(
            "a % stands before two hexadecimal digits; write %25 for the character itself"
                .to_owned(),
        );
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err("what is percent-encoded must be UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f25_names_and_values_of_the_query_are_decoded_once() {
        let url = "postgres://u:p%25w@db/x?sslrootcert=%2Fetc%2Fa%2520b&ssl%6Dode=verify%2Dfull&options=-c%20a%3Db";
        let parsed = DatabaseUrl::parse(url).unwrap();
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parsed.address, "postgres://u:p%25w@db/x");
        assert_eq!(
            parsed.parameters,
            [
                own("sslrootcert", "/etc/a%20b"),
                own("sslmode", "verify-full"),
                own("options", "-c a=b"),
            ]
        );
        let again = parsed.with_query(&parsed.parameters);
        let again = DatabaseUrl::parse(&again).unwrap();
        assert_eq!(again.parameters, parsed.parameters);
    }

    #[test]
    fn f24_an_error_quotes_nothing_of_a_url() {
        for url in [
            "postgres:/u:hush@db/x",
            "postgres//u:hush@db/x",
            "u:hush@db/x",
            "host=db password=hush",
            "postgres://u:a@hush@db/x",
            "postgres://u:a/hush@db/x",
            "postgres://u:1/hush@db/x",
            "postgres://u:50%hush@db/x",
            "postgres://u:hush%00@db/x",
            "postgres://u:%ffhush@db/x",
            "postgres://db/x?hush",
            "postgres://db/x?a=%hush",
            "postgres://db/x#hush",
        ] {
            let problem = DatabaseUrl::parse(url).err().unwrap();
            assert!(!problem.contains("hush"), "{url}: {problem}");
        }
    }
}
