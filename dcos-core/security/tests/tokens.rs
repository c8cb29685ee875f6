//! Tokens: which keys take which, whose they are, and until when.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use dcos_core::time::Time;
use dcos_security::jwt::{self, JwtError, Keys, PublicKeys, Token};
use dcos_security::{Authenticator as _, Bearer, Outcome, Secret};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

const NOW: u64 = 1_000;

fn now() -> Time {
    Time::from_nanos(NOW * 1_000_000_000)
}

fn shared(key: &str) -> Keys {
    Keys {
        shared: Some(Secret::from(key)),
        ..Keys::default()
    }
}

/// What signs a message.
type Signer = dyn Fn(&[u8]) -> Vec<u8>;

/// A key pair, its public half in a set, and how it signs.
struct Pair {
    algorithm: &'static str,
    jwk: Value,
    sign: Box<Signer>,
}

impl Pair {
    fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // SEQUENCE { INTEGER n, INTEGER e }, n of 257 bytes with its leading zero.
        let der = pair.public_key().as_ref().to_vec();
        let jwk = json!({"kty": "RSA", "n": BASE64.encode(&der[9..265]), "e": BASE64.encode(&der[267..])});
        Self {
            algorithm: "RS256",
            jwk,
            sign: Box::new(move |message| {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message,
                    &mut signature,
                )
                .unwrap();
                signature
            }),
        }
    }

    fn elliptic() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        Self {
            algorithm: "ES256",
            jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
            sign: Box::new(move |message| {
                let signature = pair.sign(&SystemRandom::new(), message).unwrap();
                signature.as_ref().to_vec()
            }),
        }
    }

    fn named(mut self, id: &str) -> Self {
        self.jwk["kid"] = id.into();
        self
    }

    fn token(&self, head: &Value, claims: &Value) -> String {
        let message = message(head, claims);
        let signature = (self.sign)(message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature))
    }
}

fn message(head: &Value, claims: &Value) -> String {
    let [head, claims] = [head, claims].map(|part| BASE64.encode(part.to_string()));
    format!("{head}.{claims}")
}

fn set(pairs: &[&Pair]) -> PublicKeys {
    let keys: Vec<&Value> = pairs.iter().map(|pair| &pair.jwk).collect();
    json!({ "keys": keys }).to_string().parse().unwrap()
}

fn public(pairs: &[&Pair]) -> Keys {
    Keys {
        public: set(pairs),
        ..Keys::default()
    }
}

/// A token with any claims by the shared key.
fn token(claims: &Value) -> String {
    // `sign` takes texts; what it signs is put together anew.
    let message = message(&json!({"alg": "HS256"}), claims);
    let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"k3y");
    let signature = aws_lc_rs::hmac::sign(&mac, message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature))
}

fn name(found: Result<Token, JwtError>) -> Option<String> {
    found.unwrap().name
}

#[test]
fn the_name_is_uid_or_else_sub() {
    let keys = shared("k3y");
    let name = |claims: Value| name(keys.verify(&token(&claims), now()));
    assert_eq!(name(json!({"uid": "a", "sub": "b"})).as_deref(), Some("a"));
    assert_eq!(name(json!({"sub": "b"})).as_deref(), Some("b"));
    assert_eq!(name(json!({"uid": "", "fid": "f"})), None);
    assert_eq!(name(json!({"uid": 5})), None, "a name is text");
}

#[test]
fn tokens_hold_for_a_time() {
    let keys = shared("k3y");
    let found = |claims: Value| keys.verify(&token(&claims), now()).map(|_| ());
    assert_eq!(
        found(json!({"uid": "a", "exp": NOW + 1, "nbf": NOW + 30})),
        Ok(())
    );
    assert_eq!(
        found(json!({"uid": "a", "exp": NOW})),
        Err(JwtError::Expired {
            exp: 1_000,
            now: 1_000
        })
    );
    assert_eq!(
        found(json!({"uid": "a", "nbf": NOW + 31})),
        Err(JwtError::Early(1_031))
    );
    assert_eq!(
        found(json!({"uid": "a", "exp": "never"})),
        Err(JwtError::NotANumber("exp"))
    );
}

#[test]
fn public_keys_check_what_their_owners_signed() {
    let claims = json!({"uid": "ops"});
    for (pair, other) in [
        (Pair::rsa(), Pair::rsa()),
        (Pair::elliptic(), Pair::elliptic()),
    ] {
        let head = json!({"alg": pair.algorithm});
        let signed = pair.token(&head, &claims);
        let found = public(&[&pair]).verify(&signed, now()).unwrap();
        assert_eq!(found.name.as_deref(), Some("ops"));
        assert!(!found.of_cluster);
        assert_eq!(public(&[&other, &pair]).verify(&signed, now()), Ok(found));
        assert_eq!(
            public(&[&other]).verify(&signed, now()),
            Err(JwtError::Signature)
        );
        let (message, _) = signed.rsplit_once('.').unwrap();
        for forged in [format!("{message}."), format!("{message}.AAAA")] {
            let refused = public(&[&pair]).verify(&forged, now());
            assert_eq!(refused, Err(JwtError::Signature));
        }
        let payload = json!({"uid": "root"}).to_string();
        let forged = signed.replace(&BASE64.encode(claims.to_string()), &BASE64.encode(payload));
        assert_ne!(forged, signed);
        let refused = public(&[&pair]).verify(&forged, now());
        assert_eq!(refused, Err(JwtError::Signature));
    }
}

#[test]
fn the_key_that_a_token_names_checks_it() {
    let (one, two) = (Pair::elliptic().named("one"), Pair::elliptic().named("two"));
    let keys = public(&[&one, &two]);
    let shown = |kid: &str| two.token(&json!({"alg": "ES256", "kid": kid}), &json!({"sub": "a"}));
    assert!(keys.verify(&shown("two"), now()).is_ok());
    assert_eq!(keys.verify(&shown("one"), now()), Err(JwtError::Signature));
    let unknown = keys.verify(&shown("three"), now());
    assert!(
        matches!(unknown, Err(JwtError::Algorithm { .. })),
        "{unknown:?}"
    );
}

/// Whoever knows a public key can make a MAC with it, or say that there is no signature.
#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let pair = Pair::rsa();
    let keys = Keys {
        shared: Some(Secret::from("k3y")),
        ..public(&[&pair])
    };
    let claims = json!({"uid": "root"});
    for algorithm in ["none", "None", "HS512", "PS256", "hs256", ""] {
        let forged = format!("{}.", message(&json!({"alg": algorithm}), &claims));
        for keys in [&keys, &shared("k3y"), &public(&[&pair])] {
            let refused = keys.verify(&forged, now());
            assert!(
                matches!(refused, Err(JwtError::Algorithm { .. })),
                "{refused:?}"
            );
        }
    }
    let forged = jwt::sign(
        &[("uid", "root")],
        &Secret::from(pair.jwk["n"].as_str().unwrap()),
    );
    assert_eq!(keys.verify(&forged, now()), Err(JwtError::Signature));
    let only = public(&[&pair]).verify(&forged, now());
    assert!(matches!(only, Err(JwtError::Algorithm { .. })), "{only:?}");
    assert!(Keys::default().verify(&forged, now()).is_err());
    let swapped = pair.token(&json!({"alg": "HS256"}), &claims);
    assert_eq!(keys.verify(&swapped, now()), Err(JwtError::Signature));
}

#[test]
fn tokens_for_others_are_not_taken() {
    let pair = Pair::elliptic();
    let all = |audience: Option<&str>| Keys {
        shared: Some(Secret::from("k3y")),
        audience: audience.map(ToOwned::to_owned),
        ..public(&[&pair])
    };
    let head = json!({"alg": "ES256"});
    for (claims, anybody, ours, ours_by_shared) in [
        (json!({"sub": "a"}), true, false, true),
        (json!({"sub": "a", "aud": "dcos"}), false, true, true),
        (json!({"sub": "a", "aud": ["x", "dcos"]}), false, true, true),
        (json!({"sub": "a", "aud": "x"}), false, false, false),
        (json!({"sub": "a", "aud": []}), false, false, false),
        (json!({"sub": "a", "aud": null}), false, false, false),
    ] {
        let taken = |keys: Keys, token: &str| match keys.verify(token, now()) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error, JwtError::Audience);
                false
            }
        };
        let signed = pair.token(&head, &claims);
        assert_eq!(taken(all(None), &signed), anybody, "{claims}");
        assert_eq!(taken(all(Some("dcos")), &signed), ours, "{claims}");
        assert_eq!(
            taken(all(Some("dcos")), &token(&claims)),
            ours_by_shared,
            "{claims}"
        );
    }
}

#[test]
fn key_sets_say_what_is_wrong_with_them() {
    let told = |text: &str| text.parse::<PublicKeys>().unwrap_err().to_string();
    assert_eq!(told("{}"), "a key set is an object with a list `keys`");
    assert_eq!(told("?"), "understanding a key set");
    let elliptic = Pair::elliptic();
    let with = |name: &str, value: Value| {
        let mut jwk = elliptic.jwk.clone();
        jwk[name] = value;
        json!({"keys": [jwk]}).to_string()
    };
    let empty = "no key of the set is an RSA key for RS256 or a P-256 key for ES256";
    for (name, value) in [
        ("use", json!("enc")),
        ("kty", json!("oct")),
        ("crv", json!("P-384")),
        ("alg", json!("ES384")),
    ] {
        assert_eq!(told(&with(name, value)), empty);
    }
    let off = told(&with("x", json!(BASE64.encode([1; 32]))));
    assert_eq!(off, "key 0 of the set: its numbers are no public key");
    let short = json!({"keys": [{"kty": "RSA", "n": BASE64.encode([255; 128]), "e": "AQAB"}]});
    assert_eq!(
        told(&short.to_string()),
        "key 0 of the set: RSA keys have 2048 to 8192 bits"
    );
}

async fn ask(bearer: &Bearer, shown: &str) -> Outcome {
    let mut request = http::Request::new(());
    let value = http::HeaderValue::try_from(shown).unwrap();
    request.headers_mut().insert(AUTHORIZATION, value);
    bearer.authenticate(&request.into_parts().0).await
}

#[tokio::test]
async fn both_forms_of_the_header_are_known_and_names_may_be_demanded() {
    let key = Secret::from("k3y");
    let (person, executor) = (
        jwt::sign(&[("uid", "ops")], &key),
        jwt::sign(&[("fid", "f")], &key),
    );
    let open = Bearer::new("r", shared("k3y"));
    let named = Bearer::new("r", shared("k3y")).named_only();
    for (shown, person) in [
        (format!("Bearer {person}"), true),
        (format!("bearer {person}"), true),
        (format!("token={person}"), true),
        (format!("Bearer {executor}"), false),
        (format!("token={executor}"), false),
    ] {
        let found = ask(&open, &shown).await;
        let Outcome::Authenticated(principal) = found else {
            panic!("{found:?}");
        };
        assert_eq!(principal.value.as_deref(), person.then_some("ops"));
        let taken = matches!(ask(&named, &shown).await, Outcome::Authenticated(_));
        assert_eq!(taken, person);
    }
}

#[tokio::test]
async fn only_the_clusters_key_makes_executors() {
    let pair = Pair::elliptic();
    let signed = pair.token(&json!({"alg": "ES256"}), &json!({"fid": "f", "cid": "c"}));
    let bearer = Bearer::new("r", public(&[&pair]));
    let found = ask(&bearer, &format!("Bearer {signed}")).await;
    assert!(matches!(found, Outcome::Unauthorized { .. }), "{found:?}");
    let claims = json!({"sub": "mallory", "fid": "f", "eid": "e", "cid": "c"});
    let signed = pair.token(&json!({"alg": "ES256"}), &claims);
    let Outcome::Authenticated(who) = ask(&bearer, &format!("Bearer {signed}")).await else {
        panic!("it has a name");
    };
    assert_eq!(who.value.as_deref(), Some("mallory"));
    assert!(who.claims.is_empty(), "{who:?}");
}

/// A challenge is a header whatever the token says of itself.
#[tokio::test]
async fn challenges_stay_headers() {
    let head = json!({"alg": "x\r\n\"\\é".repeat(1_000)});
    let forged = format!("{}.", message(&head, &json!({})));
    let found = ask(&Bearer::new("r", shared("k3y")), &format!("token={forged}")).await;
    let Outcome::Unauthorized { challenge, .. } = found else {
        panic!("{found:?}");
    };
    assert!(challenge.len() < 400, "{challenge}");
    let value = http::HeaderValue::try_from(&challenge).unwrap();
    assert_eq!(
        value.to_str().unwrap().matches('"').count(),
        6,
        "{challenge}"
    );
}
