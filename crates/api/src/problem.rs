//! Failures as answers: the one place that maps kinds to statuses and texts (chapter 20 §3.5). Plain text by default;
//! an RFC 9457 document with all problems when the client asks for `application/problem+json` (decisions 14, 29).

use axum::response::{IntoResponse, Response};
use collodi_profiles::store::StoreErrorKind;
use collodi_profiles::{Error, Problem};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::context::RequestId;

/// An answer that is a failure.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The status.
    pub status: StatusCode,
    /// A stable word for programs.
    pub code: &'static str,
    /// The contract's text.
    pub text: String,
    /// Every broken rule.
    pub problems: Vec<Problem>,
    /// Headers beside the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// A failure with that text.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), problems: Vec::new(), headers: Vec::new() }
    }

    /// A body, query or header that cannot be read.
    #[must_use]
    pub fn bad_request() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "bad request")
    }

    /// No such route.
    #[must_use]
    pub fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "404 page not found")
    }

    /// A route that does not take the method.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "method not allowed")
    }

    /// A role that may not do this.
    #[must_use]
    pub fn role(role: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "role", format!("not allowed for role {role}"))
    }

    /// A defect of this program.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal server error")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The RFC 9457 document.
    #[must_use]
    pub fn document(&self, request_id: &str) -> serde_json::Value {
        let problems: Vec<_> = self
            .problems
            .iter()
            .map(|p| json!({"pointer": p.pointer, "field": p.field, "keyword": p.keyword, "message": p.reason}))
            .collect();
        json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.text,
            "code": self.code,
            "request_id": request_id,
            "problems": problems,
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let etag = |tag: Option<&String>| tag.and_then(|tag| HeaderValue::from_str(tag).ok());
        match error {
            Error::RegistryNotFound => Self::new(StatusCode::NOT_FOUND, "registry_not_found", text),
            Error::ProfileNotFound => Self::new(StatusCode::NOT_FOUND, "profile_not_found", text),
            Error::VersionNotFound => Self::new(StatusCode::NOT_FOUND, "version_not_found", text),
            Error::InvalidRegistry(_) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_registry", text)
            }
            Error::InvalidSlug(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_slug", text),
            Error::Validation(problems) => {
                Self { problems, ..Self::new(StatusCode::BAD_REQUEST, "validation", text) }
            }
            Error::Policy { .. } => Self::new(StatusCode::FORBIDDEN, "policy", text),
            Error::UnlockForbidden => Self::new(StatusCode::FORBIDDEN, "role", text),
            Error::VersionConflict { etag: tag, .. } => {
                let failure = Self::new(StatusCode::CONFLICT, "version_conflict", text);
                match etag(tag.as_ref()) {
                    Some(tag) => failure.header(ETAG, tag),
                    None => failure,
                }
            }
            Error::RevisionConflict { .. } => {
                Self::new(StatusCode::CONFLICT, "revision_conflict", text)
            }
            Error::PreconditionFailed { etag: tag } => {
                let failure =
                    Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", text);
                match etag(Some(&tag).filter(|tag| !tag.is_empty())) {
                    Some(tag) => failure.header(ETAG, tag),
                    None => failure,
                }
            }
            Error::Store(store) => {
                tracing::error!(error = %store, "the registry's database failed");
                let code = match store.kind {
                    StoreErrorKind::Full => "storage_full",
                    StoreErrorKind::Busy => "storage_busy",
                    StoreErrorKind::Closed => "closed",
                    StoreErrorKind::Io | StoreErrorKind::Corrupt | StoreErrorKind::Other => {
                        "storage"
                    }
                };
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, text)
            }
            Error::Internal(cause) => {
                tracing::error!(%cause, "the registry failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
            }
        }
    }
}

/// Renders a failure: as plain text, or as a document if the client asks for one.
pub(crate) fn respond(failure: &Failure, wants_document: bool, request_id: &RequestId) -> Response {
    let (kind, body) = if wants_document {
        ("application/problem+json", failure.document(request_id.as_str()).to_string())
    } else {
        ("text/plain; charset=utf-8", format!("{}\n", failure.text))
    };
    let mut response = (failure.status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.extend(failure.headers.iter().cloned());
    response
}

/// Whether the client asks for problem documents, on any of its `Accept` lines.
pub(crate) fn wants_document(headers: &HeaderMap) -> bool {
    const DOCUMENT: &[u8] = b"application/problem+json";
    let mut lines = headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes);
    lines.any(|line| line.windows(DOCUMENT.len()).any(|part| part.eq_ignore_ascii_case(DOCUMENT)))
}
