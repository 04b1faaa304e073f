//! Encodes tokens and credentials: base64url without padding (RFC 4648 §5).

use std::sync::LazyLock;

use base64::engine::Simd;
use base64::engine::general_purpose::NO_PAD;

/// Encodes and decodes as `URL_SAFE_NO_PAD` does, with SIMD instructions where the processor has them. Below some
/// thirty bytes that makes no difference.
pub static BASE64URL: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));
