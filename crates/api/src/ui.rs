//! The web application: files that were compiled in, or a folder of somebody else's (`--ui-dir`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use collodi_profiles::json::hex;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::App;
use crate::extract;
use crate::problem::Failure;

/// Nothing but our own files: no inline script or style, no `eval`, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";
/// What the page is called in every bundle.
const INDEX: &str = "index.html";
/// Files whose names change with their content are kept for good.
const HASHED: &str = "assets/";

/// A file that was compiled in.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Its path in the bundle, with slashes.
    pub name: &'static str,
    /// Its content.
    pub plain: &'static [u8],
    /// The same, gzip; empty where that is not smaller.
    pub gzip: &'static [u8],
}

/// What a page of ours is told of its server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// The debug API answers.
    pub debug_api: bool,
    /// The offline demo model answers.
    pub is_demo: bool,
}

/// The files of a web application.
pub struct Ui {
    files: HashMap<String, File>,
    /// Whether it is ours, and held to [`POLICY`].
    is_ours: bool,
}

struct File {
    plain: Bytes,
    gzip: Option<Bytes>,
    /// Worked out when the file is asked for: hashing all of them took most of a start.
    etag: OnceLock<HeaderValue>,
    kind: HeaderValue,
}

impl File {
    fn new(name: &str, plain: Bytes, gzip: Option<Bytes>) -> Self {
        let kind = HeaderValue::from_static(kind_of(name));
        Self { plain, gzip, etag: OnceLock::new(), kind }
    }

    fn etag(&self) -> &HeaderValue {
        self.etag.get_or_init(|| {
            let text = format!("\"{}\"", hex(&Sha256::digest(&self.plain)[..8]));
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
        })
    }
}

impl Ui {
    /// Files that were compiled in. The page's `<base>` becomes the mount prefix, and the page is told `facts`.
    #[must_use]
    pub fn embedded(files: &[Embedded], root: &str, facts: Facts) -> Self {
        let files = files.iter().map(|file| {
            let gzip = (!file.gzip.is_empty()).then(|| Bytes::from_static(file.gzip));
            let file_of = |plain, gzip| (file.name.to_owned(), File::new(file.name, plain, gzip));
            if file.name == INDEX {
                return file_of(told(file.plain, root, facts), None);
            }
            file_of(Bytes::from_static(file.plain), gzip)
        });
        Self { files: files.collect(), is_ours: true }
    }

    /// The files of a folder, read once. Blocks.
    ///
    /// # Errors
    /// A folder that cannot be read, or has no `index.html`.
    pub fn of_folder(folder: &Path) -> std::io::Result<Self> {
        let mut files = HashMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(inner) = folders.pop() {
            for entry in std::fs::read_dir(folder.join(&inner))? {
                let entry = entry?;
                let path = inner.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.components().map(|part| part.as_os_str().to_string_lossy());
                let name = name.collect::<Vec<_>>().join("/");
                let plain = Bytes::from(std::fs::read(entry.path())?);
                files.insert(name.clone(), File::new(&name, plain, None));
            }
        }
        if !files.contains_key(INDEX) {
            return Err(std::io::Error::other(format!("{}: no {INDEX} in it", folder.display())));
        }
        Ok(Self { files, is_ours: false })
    }

    fn answer(&self, name: &str, headers: &HeaderMap) -> Option<Response> {
        let file = self.files.get(name)?;
        let etag = file.etag();
        let mut response = Response::new(Body::empty());
        let is_known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|tags| tags.as_bytes().windows(etag.len()).any(|tag| tag == etag.as_bytes()));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            let gzip = file.gzip.as_ref().filter(|_| takes_gzip(headers));
            if gzip.is_some() {
                response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            *response.body_mut() = Body::from(gzip.unwrap_or(&file.plain).clone());
        }
        let is_hashed = self.is_ours && name.starts_with(HASHED);
        let keep = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        let out = response.headers_mut();
        out.insert(CONTENT_TYPE, file.kind.clone());
        out.insert(ETAG, etag.clone());
        out.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
        out.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        out.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if self.is_ours {
            out.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            let opener = HeaderName::from_static("cross-origin-opener-policy");
            out.insert(opener, HeaderValue::from_static("same-origin"));
        }
        Some(response)
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = all.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, rest) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(rest.replace(' ', "").as_str(), "q=0" | "q=0.0")
    })
}

/// Everything in the page is relative to its base; what it is told stands in `<html data-...>`.
fn told(page: &[u8], root: &str, facts: Facts) -> Bytes {
    let text = String::from_utf8_lossy(page);
    let mut text = text.replacen("<base href=\"/\"", &format!("<base href=\"{root}/\""), 1);
    for (name, holds) in [("debug-api", facts.debug_api), ("demo", facts.is_demo)] {
        if holds {
            text = text.replacen("<html", &format!("<html data-{name}"), 1);
        }
    }
    Bytes::from(text)
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// A file of the application, or its page: unknown paths are 404 below the API and where files lie, and the page
/// elsewhere, as the contract has it for its single-page client.
pub(crate) fn page(app: &App, parts: &Parts) -> Result<Response, Failure> {
    let path = parts.uri.path();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(Failure::no_page());
    }
    let name = extract::percent_decode(path.trim_start_matches('/')).unwrap_or_default();
    if let Some(response) = app.ui.answer(&name, &parts.headers) {
        return Ok(response);
    }
    let is_file = ["/api/", "/static/", "/assets/"].iter().any(|folder| path.starts_with(folder));
    if is_file || path == "/api" || parts.method != Method::GET {
        return Err(Failure::no_page());
    }
    app.ui.answer(INDEX, &parts.headers).ok_or_else(Failure::no_page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [Embedded; 2] = [
        Embedded {
            name: "index.html",
            plain: b"<html lang=\"en\"><base href=\"/\" /><p>",
            gzip: b"x",
        },
        Embedded { name: "assets/a-1.js", plain: b"let a", gzip: b"packed" },
    ];

    fn of(ui: &Ui, name: &str, headers: &[(HeaderName, &str)]) -> Response {
        let headers = headers.iter().map(|(k, v)| (k.clone(), v.parse().unwrap())).collect();
        ui.answer(name, &headers).unwrap()
    }

    #[test]
    fn the_page_knows_its_prefix_and_is_asked_for_again_but_hashed_files_are_kept() {
        let ui = Ui::embedded(&FILES, "/x/y", Facts { debug_api: true, is_demo: false });
        assert_eq!(
            &ui.files[INDEX].plain[..],
            b"<html data-debug-api lang=\"en\"><base href=\"/x/y/\" /><p>"
        );
        let page = of(&ui, INDEX, &[(ACCEPT_ENCODING, "gzip")]);
        assert_eq!(page.headers()[CACHE_CONTROL], "no-cache");
        assert!(page.headers().get(CONTENT_ENCODING).is_none(), "it was changed");
        assert!(
            page.headers()[CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap()
                .contains("script-src 'self';")
        );
        let script = of(&ui, "assets/a-1.js", &[]);
        assert!(script.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let etag = script.headers()[ETAG].to_str().unwrap().to_owned();
        let again = of(&ui, "assets/a-1.js", &[(IF_NONE_MATCH, &etag)]);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        let ui = Ui::embedded(&FILES, "", Facts::default());
        for (accepted, sent) in
            [("gzip, br", true), ("br;q=1, gzip;q=0.5", true), ("gzip;q=0", false), ("br", false)]
        {
            let script = of(&ui, "assets/a-1.js", &[(ACCEPT_ENCODING, accepted)]);
            assert_eq!(script.headers().contains_key(CONTENT_ENCODING), sent, "{accepted}");
        }
    }

    #[test]
    fn a_folder_of_somebody_else_s_is_served_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Ui::of_folder(folder.path()).is_err());
        std::fs::create_dir(folder.path().join("static")).unwrap();
        std::fs::write(folder.path().join(INDEX), "<base href=\"/\"><script>inline()</script>")
            .unwrap();
        std::fs::write(folder.path().join("static/x.css"), "p{}").unwrap();
        let ui = Ui::of_folder(folder.path()).unwrap();
        let page = of(&ui, INDEX, &[]);
        assert!(page.headers().get(CONTENT_SECURITY_POLICY).is_none(), "its scripts are its own");
        assert_eq!(of(&ui, "static/x.css", &[]).headers()[CONTENT_TYPE], "text/css; charset=utf-8");
    }
}
