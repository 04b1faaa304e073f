//! Public documents with an `ETag` and a lifetime in caches.

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Holds a document that is rendered once, and whose bytes all answers share: whoever takes none of them must not cost a
/// copy.
pub(super) struct Document {
    body: Bytes,
    etag: String,
    max_age: Duration,
    media_type: &'static str,
}

impl Document {
    /// Makes a JSON document.
    pub(super) fn new(body: String, max_age: Duration) -> Self {
        Self::of_type("application/json", body.into(), max_age)
    }

    pub(super) fn of_type(media_type: &'static str, body: Bytes, max_age: Duration) -> Self {
        let etag = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &body).as_ref()[..12]);
        Self {
            body,
            etag: format!("\"{etag}\""),
            max_age,
            media_type,
        }
    }

    /// Returns the document, or a 304 if the caller has this version of it (RFC 9110 §13.1.2).
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|field| {
            let text = field.to_str().unwrap_or_default();
            text.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == self.etag || tag == "*")
        });
        let cache_control = format!("public, max-age={}", self.max_age.as_secs());
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let media_type = [(CONTENT_TYPE, self.media_type)];
            (media_type, self.body.clone()).into_response()
        };
        for (name, value) in [(CACHE_CONTROL, &cache_control), (ETAG, &self.etag)] {
            let value = HeaderValue::from_str(value).expect("digits and base64url");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Returns a handler that serves a document which is rendered at its first request and doesn't change afterwards.
pub(super) fn handler(
    make: impl FnOnce() -> Document + Send + 'static,
) -> impl Fn(HeaderMap) -> std::future::Ready<Response> + Clone {
    let document = Arc::new(LazyLock::new(make));
    move |headers| std::future::ready(document.answer(&headers))
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn answers_share_the_bytes_of_a_document() {
        let document = Document::new("{}".to_owned(), Duration::ZERO);
        let mut places = Vec::new();
        for _ in 0..2 {
            let body = document.answer(&HeaderMap::new()).into_body();
            let bytes = to_bytes(body, 100).await.unwrap();
            places.push(bytes.as_ptr());
        }
        assert_eq!(places, [document.body.as_ptr(); 2]);
    }
}
