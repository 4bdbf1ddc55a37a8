//! Addresses: which of them are sound, where bare ones stand in a text, and whether the text of a
//! link says another place than it leads to.

use std::ops::Range;

/// Bare addresses are no longer: an end must be in sight.
const LONGEST: usize = 2000;

/// The host of an `http` or `https` address. `None` for everything else, for addresses that are
/// malformed, and for those with a user before the host, which serve to deceive.
pub(super) fn web_host(url: &str) -> Option<&str> {
    let rest = after_scheme(url)?;
    let foul = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"');
    if url.contains(foul) {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let label = |label: &str| {
        let part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.chars().all(part)
    };
    let sound = host.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    sound.then_some(host)
}

fn after_scheme(url: &str) -> Option<&str> {
    ["https://", "http://"].iter().find_map(|scheme| {
        let head = url.get(..scheme.len())?;
        head.eq_ignore_ascii_case(scheme)
            .then(|| &url[scheme.len()..])
    })
}

/// Where the first bare web address of a text stands, without the punctuation behind it.
pub(super) fn bare(text: &str) -> Option<Range<usize>> {
    let mut starts = text.match_indices("http").map(|(start, _)| start);
    starts.find_map(|start| {
        let before = text[..start].chars().next_back();
        if before.is_some_and(char::is_alphanumeric) {
            return None;
        }
        let end = start + address_len(&text[start..]);
        web_host(&text[start..end]).map(|_| start..end)
    })
}

fn address_len(text: &str) -> usize {
    if after_scheme(text).is_none() {
        return 0;
    }
    let ends = |c: char| {
        let cjk_punctuation = matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}');
        c.is_whitespace() || c.is_control() || cjk_punctuation || "<>\"`|".contains(c)
    };
    let head = &text[..text.floor_char_boundary(LONGEST)];
    let address = head.split(ends).next().unwrap_or_default();
    let opened = address.matches('(').count();
    let mut closed = address.matches(')').count();
    let trailing = |c: char| match c {
        ')' if closed > opened => {
            closed -= 1;
            true
        }
        c => ".,;:!?'*_~]}".contains(c),
    };
    address.trim_end_matches(trailing).len()
}

/// Whether two addresses are the same but for scheme, `www.` and a last slash.
pub(super) fn same(shown: &str, url: &str) -> bool {
    short(shown) == short(url)
}

fn short(url: &str) -> String {
    let url = url.trim().to_lowercase();
    let url = url.strip_prefix("mailto:").unwrap_or(&url);
    let url = after_scheme(url).unwrap_or(url);
    let url = url.strip_prefix("www.").unwrap_or(url);
    url.trim_end_matches('/').to_owned()
}

/// Whether the text of a link reads like an address, and that is not the one it leads to.
pub(super) fn misleads(shown: &str, url: &str) -> bool {
    let seen: String = shown.chars().filter_map(as_seen).collect();
    seen.split_whitespace().any(|word| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
        let whole = word.contains("://") || word.to_lowercase().starts_with("www.");
        let parts = |c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-'));
        let elsewhere = |part| domain(part).is_some_and(|domain| !leads_to(url, &domain));
        !same(word, url) && (whole || word.split(parts).any(elsewhere))
    })
}

/// A character as the eye takes it: dots of all kinds are dots, what has no width is not there.
fn as_seen(c: char) -> Option<char> {
    match c {
        '\u{2024}' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}' => Some('.'),
        '\u{ff0f}' | '\u{2044}' | '\u{2215}' => Some('/'),
        c if c.is_whitespace() => Some(' '),
        c if super::is_blank(c) || matches!(c, '\u{ad}' | '\u{2060}'..='\u{206f}') => None,
        c => Some(c),
    }
}

/// The domain, in small letters, that a part of a word names: `example.com`, `10.0.0.1`.
fn domain(part: &str) -> Option<String> {
    let host = part.trim_matches('.').to_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let top = labels.last()?;
    let letters = top.starts_with("xn--") || top.chars().all(char::is_alphabetic);
    let named = labels.len() > 1 && letters && top.chars().nth(1).is_some();
    let numbered = labels.len() == 4 && labels.iter().all(|label| label.parse::<u8>().is_ok());
    (named || numbered).then_some(host)
}

fn leads_to(url: &str, domain: &str) -> bool {
    let domain = domain.strip_prefix("www.").unwrap_or(domain);
    let host = match url.split_once("mailto:") {
        Some(("", address)) => address.rsplit('@').next(),
        _ => web_host(url),
    };
    host.map(str::to_lowercase).is_some_and(|host| {
        let above = host.strip_suffix(domain);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_sound_addresses() {
        for (url, host) in [
            ("https://example.com", Some("example.com")),
            ("HTTPS://Example.com:8080/a?b#c", Some("Example.com")),
            ("http://localhost:3000/x", Some("localhost")),
            ("http://пример.рф/", Some("пример.рф")),
            ("https://bank.com@evil.com/", None),
            ("https://evil.com\\@bank.com/", Some("evil.com")),
            ("https://a..b/", None),
            ("https:///x", None),
            ("https://a.com:0/", None),
            ("https://a.com:99999/", None),
            ("https://a.com/x y", None),
            ("https://a.com/\u{0}", None),
            ("ftp://a.com", None),
            ("javascript:alert(1)", None),
            ("docs/a.md", None),
            ("", None),
        ] {
            assert_eq!(web_host(url), host, "{url}");
        }
    }

    #[test]
    fn bare_addresses_end_where_a_reader_ends_them() {
        for (text, found) in [
            ("see https://a.com/x.", Some("https://a.com/x")),
            ("(https://a.com/x)", Some("https://a.com/x")),
            ("https://a.com/x_(y) z", Some("https://a.com/x_(y)")),
            ("详见 https://a.com/x。谢谢", Some("https://a.com/x")),
            ("xhttps://a.com http://b.com", Some("http://b.com")),
            ("http and https:// only", None),
        ] {
            assert_eq!(bare(text).map(|range| &text[range]), found, "{text}");
        }
    }

    #[test]
    fn a_text_that_names_another_place_misleads() {
        for (shown, url, misleading) in [
            ("click here", "https://evil.com", false),
            ("https://a.com/x", "https://a.com/x", false),
            ("https://a.com", "https://a.com/", false),
            ("a.com", "https://www.a.com/deep/page", false),
            ("a.com", "https://docs.a.com/", false),
            ("version 1.2", "https://a.com", false),
            ("e.g. this", "https://a.com", false),
            ("https://a.com/x", "https://a.com/y", true),
            ("https://bank.com", "https://evil.com", true),
            ("see bank.com now", "https://evil.com/bank.com", true),
            ("bank.com", "https://notbank.com", true),
            ("www.bank.com", "https://evil.com", true),
            ("b\u{200b}ank.com", "https://evil.com", true),
            ("bank。com", "https://evil.com", true),
            ("«bank.com»", "https://evil.com", true),
            ("login:bank.com", "https://evil.com", true),
            ("a.com/x.html", "https://a.com/x.html", false),
            ("10.0.0.1", "https://evil.com", true),
            ("you@bank.com", "https://evil.com", true),
            ("you@a.com", "mailto:you@a.com", false),
        ] {
            assert_eq!(misleads(shown, url), misleading, "{shown} -> {url}");
        }
    }
}
