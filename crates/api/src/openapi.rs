//! stub
/// stub
#[must_use]
pub fn document() -> serde_json::Value {
    serde_json::json!({})
}
