//! Who may do what, from where (decisions 37 and 38): tokens with roles, the Origin of unsafe requests, the Host of
//! requests to a loopback address. Deny by default: one gate, before any handler.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN, UPGRADE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Failure;

/// What a token may do; each includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Chat and read profiles.
    User,
    /// And write profiles.
    Editor,
    /// And debug API, metrics, snapshots, unlocking.
    Operator,
}

impl Role {
    /// The word of the tokens file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Editor => "editor",
            Self::Operator => "operator",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::User, Self::Editor, Self::Operator].into_iter().find(|role| role.as_str() == word)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's name; empty when nobody has to authenticate.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
}

impl Principal {
    /// Who asks what is open to everybody.
    #[must_use]
    pub fn nobody() -> Self {
        Self { name: "".into(), role: Role::User }
    }
}

struct Token {
    name: Arc<str>,
    role: Role,
    sha256: [u8; 32],
}

/// The gate.
#[derive(Default)]
pub struct Access {
    /// `None`: nobody has to authenticate.
    tokens: Option<Vec<Token>>,
    /// Besides the host itself, in the form `scheme://host[:port]`.
    origins: Vec<String>,
    /// Bound to loopback, so the host must be a loopback name (against DNS rebinding).
    loopback_only: bool,
}

impl Access {
    /// Nobody has to authenticate.
    #[must_use]
    pub fn open(loopback_only: bool, origins: Vec<String>) -> Self {
        Self {
            tokens: None,
            origins: origins.into_iter().map(|o| normal_origin(&o)).collect(),
            loopback_only,
        }
    }

    /// Requires tokens: lines `name:role:sha256-hex-of-token`, `#` starts a comment.
    ///
    /// # Errors
    /// The line that cannot be read, or a file without tokens.
    pub fn with_tokens(mut self, file: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (number, line) in (1..).zip(file.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let token = parse_token(line).map_err(|reason| format!("line {number}: {reason}"))?;
            tokens.push(token);
        }
        if tokens.is_empty() {
            return Err("no tokens in the file".into());
        }
        self.tokens = Some(tokens);
        Ok(self)
    }

    /// Whether callers must authenticate.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.tokens.is_some()
    }

    /// Admits a request to `path` (already without the mount prefix), or says why not.
    ///
    /// # Errors
    /// 401 and 403 with the texts of decisions 37 and 38.
    pub fn admit(&self, parts: &Parts, path: &str) -> Result<Principal, Failure> {
        self.check_host(&parts.headers)?;
        self.check_origin(parts)?;
        let Some(tokens) = &self.tokens else {
            return Ok(Principal { name: "".into(), role: Role::Operator });
        };
        let principal = presented_token(&parts.headers)
            .and_then(|presented| find_token(tokens, &presented))
            .ok_or_else(|| {
                let challenge =
                    HeaderValue::from_static("Basic realm=\"collodi\", charset=\"UTF-8\"");
                Failure::new(StatusCode::UNAUTHORIZED, "unauthenticated", "authentication required")
                    .header(WWW_AUTHENTICATE, challenge)
            })?;
        if principal.role < required_role(&parts.method, path) {
            return Err(Failure::role(principal.role.as_str()));
        }
        Ok(principal)
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if !self.loopback_only {
            return Ok(());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let listed = || self.origins.iter().any(|o| authority_of(o).eq_ignore_ascii_case(host));
        if is_loopback_name(host_name(host)) || listed() { Ok(()) } else { Err(foreign()) }
    }

    fn check_origin(&self, parts: &Parts) -> Result<(), Failure> {
        let unsafe_method =
            !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
        let Some(origin) = parts.headers.get(ORIGIN) else { return Ok(()) };
        if !unsafe_method && !parts.headers.contains_key(UPGRADE) {
            return Ok(());
        }
        let origin = normal_origin(origin.to_str().map_err(|_| foreign())?);
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let same = !host.is_empty()
            && authority_of(&origin).eq_ignore_ascii_case(&normal_host(&origin, host));
        if same || self.origins.contains(&origin) { Ok(()) } else { Err(foreign()) }
    }
}

fn foreign() -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "origin", "origin not allowed")
}

/// What a path takes. Whatever is not listed takes a user, so that a new route is never open by accident.
fn required_role(method: &Method, path: &str) -> Role {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let operators = ["/metrics", "/api/debug", "/api/chat/audit"];
    let below = ["/api/debug/", "/api/ops/"];
    if operators.contains(&path) || below.iter().any(|folder| path.starts_with(folder)) {
        Role::Operator
    } else if (path.starts_with("/api/chat/profiles") || path == "/api/chat/bundle") && !reads {
        Role::Editor
    } else {
        Role::User
    }
}

fn parse_token(line: &str) -> Result<Token, String> {
    let mut fields = line.split(':').map(str::trim);
    let (Some(name), Some(role), Some(hash), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("expected name:role:sha256-hex-of-token".into());
    };
    if name.is_empty() {
        return Err("the name must not be empty".into());
    }
    let role =
        Role::parse(role).ok_or_else(|| format!("unknown role {role} (user, editor, operator)"))?;
    let digits: Vec<u8> =
        hash.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    if hash.len() != 64 || digits.len() != 64 {
        return Err("the hash must be 64 hex digits".into());
    }
    let mut sha256 = [0; 32];
    for (byte, pair) in sha256.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] * 16 + pair[1];
    }
    // The hash of the empty token would let everybody in who sends nothing.
    if sha256[..] == Sha256::digest(b"")[..] {
        return Err("the hash is that of an empty token".into());
    }
    Ok(Token { name: name.into(), role, sha256 })
}

/// A Bearer token, or the password of Basic, so that browsers and `/ws` work.
pub(crate) fn presented_token(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().into());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned().into())
}

/// Compares with every token in constant time.
fn find_token(tokens: &[Token], presented: &str) -> Option<Principal> {
    let hash: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
    let mut found = None;
    for token in tokens {
        if bool::from(token.sha256.ct_eq(&hash)) {
            found = Some(Principal { name: token.name.clone(), role: token.role });
        }
    }
    found
}

fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// `localhost`, its subdomains, and loopback addresses.
#[must_use]
pub fn is_loopback_name(name: &str) -> bool {
    if matches!(name, "127.0.0.1" | "localhost") {
        return true;
    }
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Lower case, no trailing slash, no default port.
fn normal_origin(origin: &str) -> String {
    let origin = origin.trim().trim_end_matches('/').to_ascii_lowercase();
    let default_port = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        _ => return origin,
    };
    origin.strip_suffix(default_port).unwrap_or(&origin).to_owned()
}

fn authority_of(origin: &str) -> &str {
    origin.split_once("://").map_or("", |(_, authority)| authority)
}

fn normal_host(origin: &str, host: &str) -> String {
    let scheme = origin.split("://").next().unwrap_or_default();
    authority_of(&normal_origin(&format!("{scheme}://{host}"))).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use collodi_profiles::json::sha256_hex;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let builder = http::Request::builder().method(method).uri("/x");
        let builder =
            headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    fn texts(access: &Access, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        match access.admit(&parts(method, headers), path) {
            Ok(principal) => format!("ok {} {}", principal.name, principal.role.as_str()),
            Err(failure) => format!("{} {}", failure.status.as_u16(), failure.text),
        }
    }

    fn guarded() -> Access {
        let file = format!(
            "# who\nann:user:{}\nbob:editor:{} # edits\nop:operator:{}\n",
            sha256_hex("u"),
            sha256_hex("e"),
            sha256_hex("o")
        );
        Access::open(false, vec![]).with_tokens(&file).unwrap()
    }

    #[test]
    fn c20_h12_tokens_carry_roles_and_every_path_needs_one() {
        let access = guarded();
        let basic = format!("Basic {}", STANDARD.encode("any:u"));
        for (method, path, authorization, expected) in [
            ("GET", "/api/chat/profiles", "Bearer u", "ok ann user"),
            ("GET", "/api/chat/profiles", basic.as_str(), "ok ann user"),
            ("GET", "/anything", "Bearer wrong", "401 authentication required"),
            ("GET", "/anything", "Digest u", "401 authentication required"),
            ("POST", "/api/chat/profiles", "Bearer u", "403 not allowed for role user"),
            ("DELETE", "/api/chat/profiles/a", "bearer e", "ok bob editor"),
            ("POST", "/api/chat/profile", "Bearer u", "ok ann user"),
            ("GET", "/metrics", "Bearer e", "403 not allowed for role editor"),
            ("GET", "/api/debug/turns", "Bearer o", "ok op operator"),
        ] {
            assert_eq!(
                texts(&access, method, path, &[("authorization", authorization)]),
                expected,
                "{method} {path}"
            );
        }
        assert_eq!(texts(&access, "GET", "/", &[]), "401 authentication required");
    }

    #[test]
    fn token_files_that_would_let_anybody_in_are_refused() {
        for (file, reason) in [
            ("", "no tokens in the file"),
            ("a:user", "line 1: expected name:role:sha256-hex-of-token"),
            ("\na:root:00", "line 2: unknown role root (user, editor, operator)"),
            ("a:user:00", "line 1: the hash must be 64 hex digits"),
        ] {
            assert_eq!(Access::open(true, vec![]).with_tokens(file).err().unwrap(), reason);
        }
        let empty = format!("a:user:{}", sha256_hex(""));
        assert!(Access::open(true, vec![]).with_tokens(&empty).is_err());
    }

    #[test]
    fn c20_h12_origins_of_unsafe_requests_must_be_the_host_or_listed() {
        let access = Access::open(false, vec!["https://chat.example.com/".into()]);
        for (method, headers, ok) in [
            ("POST", vec![("host", "a:8080"), ("origin", "http://a:8080")], true),
            ("POST", vec![("host", "a"), ("origin", "http://A:80")], true),
            ("POST", vec![("host", "a"), ("origin", "http://b")], false),
            ("POST", vec![("host", "a"), ("origin", "null")], false),
            ("POST", vec![("host", "a"), ("origin", "https://chat.example.com")], true),
            ("POST", vec![("host", "a"), ("origin", "https://chat.example.com.evil.test")], false),
            ("POST", vec![("host", "a")], true),
            ("GET", vec![("host", "a"), ("origin", "http://b")], true),
            ("GET", vec![("host", "a"), ("origin", "http://b"), ("upgrade", "websocket")], false),
        ] {
            let text = texts(&access, method, "/chat", &headers);
            assert_eq!(text.starts_with("ok"), ok, "{method} {headers:?}: {text}");
        }
    }

    #[test]
    fn f29_bound_to_loopback_the_host_must_be_a_loopback_name() {
        let access = Access::open(true, vec!["http://dev.box:8080".into()]);
        for (host, ok) in [
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("app.localhost", true),
            ("dev.box:8080", true),
            ("evil.test:8080", false),
            ("localhost.evil.test", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            let text = texts(&access, "GET", "/", &[("host", host)]);
            assert_eq!(text.starts_with("ok"), ok, "{host}: {text}");
        }
    }
}
