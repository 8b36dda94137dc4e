//! What handlers know of a request beside itself.

use std::sync::Arc;

use http::header::HeaderName;

use crate::access::Principal;

/// The header that names a request, in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What handlers know of a request beside itself.
#[derive(Debug, Clone)]
pub struct Context {
    /// Names the request in answers, log lines and the change log.
    pub request_id: Arc<str>,
    /// Who asks.
    pub principal: Principal,
}
