//! Tells by the `charset` of a media type if a body can be read as UTF-8.

/// Tells if a body in that charset is UTF-8 as it stands: it says that it is UTF-8, or it is ASCII in a charset that contains
/// ASCII, as HTTP libraries add one by themselves.
pub(super) fn is_readable(label: &str, body: &[u8]) -> bool {
    // Labels are written in many ways, quoted or not: UTF-8, utf8, ISO_8859-1:1987.
    let label: String = label
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|char| char.to_ascii_lowercase())
        .collect();
    label == "utf8" || (body.is_ascii() && contains_ascii(&label))
}

/// Knows the charsets in which the bytes of ASCII mean what they mean in ASCII, by letters and digits of their labels. UTF-16,
/// UTF-7, ISO-2022 and EBCDIC are none.
fn contains_ascii(label: &str) -> bool {
    let is_numbered = |prefix: &str| {
        let number = label.strip_prefix(prefix).unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    NAMED.contains(&label) || NUMBERED.iter().any(|prefix| is_numbered(prefix))
}

const NAMED: &[&str] = &[
    "ascii",
    "usascii",
    "ansix341968",
    "iso646us",
    "macintosh",
    "koi8r",
    "koi8u",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "eucjp",
    "euckr",
    "shiftjis",
];

/// The first is followed by a part, such as 1 or 15, and perhaps a year.
const NUMBERED: &[&str] = &["iso8859", "latin", "windows125", "cp125", "tis"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_is_readable_in_what_contains_it() {
        for label in [
            "utf-8",
            "UTF8",
            "\"utf-8\"",
            "us-ascii",
            "US_ASCII",
            "ascii",
            "'iso-8859-1'",
            "ISO8859_15",
            "ISO_8859-1:1987",
            "latin1",
            "Latin-9",
            "windows-1252",
            "cp1251",
            "GB18030",
            "Shift_JIS",
            "EUC-KR",
        ] {
            assert!(is_readable(label, b"a=b"), "{label}");
        }
        for label in [
            "",
            "utf-16",
            "utf-16le",
            "utf-32",
            "utf-7",
            "cp037",
            "iso-2022-jp",
            "iso-8859",
            "utf-8x",
            "x",
        ] {
            assert!(!is_readable(label, b"a=b"), "{label}");
        }
    }

    #[test]
    fn what_is_no_ascii_must_say_that_it_is_utf8() {
        assert!(is_readable("utf-8", "é".as_bytes()));
        assert!(!is_readable("iso-8859-1", "é".as_bytes()));
        assert!(!is_readable("iso-8859-1", b"\xe9"));
    }
}
