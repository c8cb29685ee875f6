//! Access rules, credentials, rate limits, tokens and answers to challenges of strangers: never a
//! panic, and nobody gets in by chance.
#![no_main]

use dcos_core::time::Time;
use dcos_security::cram_md5::{MECHANISM, Server, Verdict};
use dcos_security::{
    Acls, Action, Authorizer, Credential, Credentials, Object, Principal, RateLimits, Secret, jwt,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Credentials::parse(bytes);
    let _ = Credential::parse(bytes);
    let known: Credentials = [Credential::new("ops", "a long secret")]
        .into_iter()
        .collect();
    let mut server = Server::new("<a nonce@host>");
    let _ = server.start(MECHANISM);
    assert!(!matches!(server.step(bytes, &known), Verdict::Completed(_)));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = text.parse::<RateLimits>();
    let _ = text.parse::<jwt::PublicKeys>();
    let keys = jwt::Keys {
        shared: Some(Secret::from("a long key")),
        ..jwt::Keys::default()
    };
    assert!(keys.verify(text, Time::default()).is_err());
    if let Ok(acls) = text.parse::<Acls>() {
        for subject in [None, Some(Principal::new("a"))] {
            for action in Action::ALL {
                let approver = acls.approver(subject.as_ref(), *action);
                let value = approver.approved(&Object::value("a/b"));
                assert!(value || !approver.approves_all());
            }
        }
    }
});
