//! Bounds the answer of the token endpoint, since existing clients read no more of it than they have room for.

use crate::attributes::Attributes;
use crate::claims::Claims;
use crate::client::{ClaimName, Client};
use crate::customer::{self, CustomerId};
use crate::grant::GrantId;
use crate::policy::{Audience, Policy};
use crate::profile::{NetworkId, ProfileId};
use crate::time::Timestamp;

/// The most bytes that an answer may have, unless it is signed with RS256.
pub const MAX_BYTES: usize = 1536;

/// Returns the bytes of the longest answer that a client can get from that issuer, with the longest signature and key id but for
/// those of RS256.
#[must_use]
pub fn longest(client: &Client, policy: &Policy, issuer: &str) -> usize {
    let customer: CustomerId = "x"
        .repeat(customer::MAX_BYTES)
        .parse()
        .expect("this is an id");
    let attributes = Attributes::longest();
    let profile = ProfileId::from_i64(i64::MAX).expect("it is positive");
    let claims = Claims {
        issuer,
        audience: policy.audience.as_ref().map(Audience::as_str),
        audience_restricted: client.sole_audience().is_some(),
        client_id: client.id.as_str(),
        profile,
        network_id: NetworkId::from_bytes([0; 16]),
        grant: GrantId::new(profile, [0; 8]),
        token_id: [0; 16],
        // Ten digits, as until 2286.
        issued_at: Timestamp::from_millis(9_999_999_999_000),
        expires_at: Timestamp::from_millis(9_999_999_999_000),
        customer: client.is_told(ClaimName::CUSTOMER).then_some(&customer),
        attributes: client.is_told_attributes().then_some(&attributes),
    };
    let mut payload = String::new();
    claims.write_payload_segment(&mut payload);
    let expires_in = policy.access_ttl.as_secs().to_string();
    ANSWER + HEADER + payload.len() + SIGNATURE + expires_in.len() + REFRESH_TOKEN
}

/// Returns by how many bytes the claims that a client is told by choice could take an answer beyond [`MAX_BYTES`]. `None` if they
/// can't, or it is told none: then nothing in the answer is of the client's choosing.
#[must_use]
pub fn beyond(client: &Client, policy: &Policy, issuer: &str) -> Option<usize> {
    let beyond = longest(client, policy, issuer).checked_sub(MAX_BYTES);
    beyond.filter(|bytes| *bytes > 0 && !client.claims.is_empty())
}

/// All that is the same in every answer, with the dots of the access token.
const ANSWER: usize =
    r#"{"access_token":"..","refresh_token":"","expires_in":,"token_type":"Bearer"}"#.len();
/// The header of an access token, whose `kid` is a thumbprint.
const HEADER: usize = in_base64(r#"{"alg":"ES256","typ":"at+jwt","kid":""}"#.len() + in_base64(32));
const SIGNATURE: usize = in_base64(64);
const REFRESH_TOKEN: usize = in_base64(48);

const fn in_base64(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientNumber;
    use crate::policy::PolicyOverrides;

    #[test]
    fn an_answer_is_as_long_as_its_parts() {
        let now = Timestamp::from_millis(0);
        let mut client = Client::new(ClientNumber(1), "shop-web".parse().unwrap(), now);
        let policy = Policy::default().with(&PolicyOverrides {
            audience: "https://api.shop.example".parse().ok(),
            ..PolicyOverrides::default()
        });
        let longest = |client: &Client| longest(client, &policy, "https://id.shop.example");
        let untold = longest(&client);
        client.claims = vec![ClaimName::CUSTOMER.parse().unwrap()];
        // A third more than the claim itself.
        let claim = r#","customer":"""#.len() + 128;
        assert!(longest(&client).abs_diff(untold + claim * 4 / 3) <= 1);
        assert_eq!((untold, longest(&client)), (724, 913));
    }
}
