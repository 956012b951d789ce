//! The messages of an exchange: one encoding each, and nothing else is read.

use super::Random;
use crate::exchange::{
    Answer, Challenge, Issued, MAX_MESSAGE, OfferedKey, Request, RequestForm, TpmDescription,
    answer_data, message_kind,
};
use crate::{Code, Refusal, Statement};

pub(super) fn request() -> Request {
    Request {
        attestation_key: vec![1; 88],
        endorsement_keys: vec![
            OfferedKey {
                public: vec![2; 314],
                certificates: vec![vec![0x30; 40], vec![0x31; 3]],
            },
            OfferedKey {
                public: vec![3; 122],
                certificates: Vec::new(),
            },
        ],
        storage_root_key: vec![4; 90],
        tpm: TpmDescription {
            manufacturer: *b"IBM\0",
            model: "SW   TPM".to_owned(),
            firmware: 0x2019_1023_0016_3636,
            revision: 164,
        },
        form: RequestForm::Sealed {
            made_at_reset: 7,
            witness: vec![5; 120],
        },
        name: Some("Alice".to_owned()),
    }
}

fn challenge() -> Challenge {
    Challenge {
        endorsement_key: 1,
        blob: vec![6; 68],
        seed: vec![7; 256],
        state: vec![8; 300],
    }
}

fn statement(byte: u8) -> Statement {
    Statement {
        attest: vec![byte; 140],
        signature: vec![byte; 72],
    }
}

fn answer() -> Answer {
    Answer {
        secret: vec![9; 32],
        state: vec![8; 300],
        attestation_key: statement(10),
        witness: Some(statement(11)),
    }
}

fn issued() -> Issued {
    Issued {
        certificates: vec![vec![0x30; 500], vec![0x30; 380]],
    }
}

/// What a message reads as: nothing, or the bytes that it is written as.
type ReadAgain = fn(&[u8]) -> Result<Vec<u8>, Refusal>;

fn messages() -> [(Vec<u8>, ReadAgain); 4] {
    [
        (request().encode(), |bytes| {
            Request::decode(bytes).map(|message| message.encode())
        }),
        (challenge().encode(), |bytes| {
            Challenge::decode(bytes).map(|message| message.encode())
        }),
        (answer().encode(), |bytes| {
            Answer::decode(bytes).map(|message| message.encode())
        }),
        (issued().encode(), |bytes| {
            Issued::decode(bytes).map(|message| message.encode())
        }),
    ]
}

#[test]
fn messages_are_read_as_they_were_written() {
    assert_eq!(Request::decode(&request().encode()).unwrap(), request());
    let bare = Request {
        form: RequestForm::Approved,
        name: None,
        ..request()
    };
    assert_eq!(Request::decode(&bare.encode()).unwrap(), bare);
    assert_eq!(
        Challenge::decode(&challenge().encode()).unwrap(),
        challenge()
    );
    assert_eq!(Answer::decode(&answer().encode()).unwrap(), answer());
    let bare = Answer {
        witness: None,
        ..answer()
    };
    assert_eq!(Answer::decode(&bare.encode()).unwrap(), bare);
    assert_eq!(Issued::decode(&issued().encode()).unwrap(), issued());
}

#[test]
fn encoding_of_a_message_is_fixed() {
    let message = Issued {
        certificates: vec![vec![0x30, 0x00]],
    };
    let mut expected = vec![0xA2, 0x00, 0x77];
    expected.extend_from_slice(b"cardea-ak-certificate-1");
    expected.extend_from_slice(&[0x01, 0x81, 0x42, 0x30, 0x00]);
    assert_eq!(message.encode(), expected);
}

#[test]
fn answer_data_binds_version_and_secret() {
    use sha2::{Digest, Sha256};
    let expected = Sha256::digest([&b"cardea-ak-answer-1\0"[..], &[9; 32]].concat());
    assert_eq!(answer_data(&[9; 32])[..], expected[..]);
}

#[test]
fn message_in_place_of_another_is_named() {
    for (at, (bytes, _)) in messages().iter().enumerate() {
        for (other, (_, read_again)) in messages().iter().enumerate() {
            let code = read_again(bytes).map_err(|refusal| refusal.code);
            match at == other {
                true => assert_eq!(code.as_ref(), Ok(bytes)),
                false => assert_eq!(code, Err(Code::MessageVersion)),
            }
        }
    }
    let kinds = messages().map(|(bytes, _)| message_kind(&bytes).unwrap());
    assert_eq!(
        kinds,
        [
            "cardea-ak-request-1",
            "cardea-ak-challenge-1",
            "cardea-ak-answer-1",
            "cardea-ak-certificate-1"
        ]
    );
    assert_eq!(message_kind(b"\xA1\x00\x61a"), None);
    let mut later = b"\xA1\x00\x73cardea-ak-request-2".to_vec();
    let refusal = Request::decode(&later).unwrap_err();
    assert_eq!(refusal.code, Code::MessageVersion);
    later.truncate(10);
    let refusal = Request::decode(&later).unwrap_err();
    assert_eq!(refusal.code, Code::MessageForm);
}

#[test]
fn message_that_is_cut_or_continued_is_refused() {
    for (bytes, read_again) in messages() {
        for length in 0..bytes.len() {
            let refusal = read_again(&bytes[..length]).unwrap_err();
            assert_eq!(refusal.code, Code::MessageForm, "{length}");
        }
        let refusal = read_again(&[&bytes[..], &[0]].concat()).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    }
}

#[test]
fn each_changed_byte_is_refused_or_reads_as_another_message() {
    for (bytes, read_again) in messages() {
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xFF, 0x20] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                // There is one encoding: what is accepted is what was sent.
                match read_again(&changed) {
                    Ok(again) => assert_eq!(again, changed, "{at}"),
                    Err(refusal) => assert!(
                        matches!(refusal.code, Code::MessageForm | Code::MessageVersion),
                        "{at}: {refusal}"
                    ),
                }
            }
        }
    }
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let mut random = Random(20);
    for (good, read_again) in messages() {
        for _ in 0..500 {
            let kept = random.below(good.len());
            let mut bytes = good[..kept].to_vec();
            let mut junk = vec![0; random.below(200)];
            random.fill(&mut junk);
            bytes.extend_from_slice(&junk);
            if let Ok(again) = read_again(&bytes) {
                assert_eq!(again, bytes);
            }
        }
    }
    for byte in [0x00, 0x9F, 0xBB, 0xFF] {
        let refusal = Request::decode(&vec![byte; MAX_MESSAGE + 1]).unwrap_err();
        assert_eq!(refusal.code, Code::MessageSize);
        let refusal = Request::decode(&vec![byte; MAX_MESSAGE]).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    }
}

#[test]
fn parts_beyond_their_limits_are_refused() {
    let refused = |message: &Request| {
        let refusal = Request::decode(&message.encode()).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    };
    let key = request().endorsement_keys.remove(1);
    let keys = |count| Request {
        endorsement_keys: vec![key.clone(); count],
        ..request()
    };
    refused(&keys(0));
    assert!(Request::decode(&keys(9).encode()).is_ok());
    refused(&keys(10));
    let certificates = |count| Request {
        endorsement_keys: vec![OfferedKey {
            public: vec![1],
            certificates: vec![vec![0x30]; count],
        }],
        ..request()
    };
    assert!(Request::decode(&certificates(8).encode()).is_ok());
    refused(&certificates(9));
    let area = |length| Request {
        attestation_key: vec![1; length],
        ..request()
    };
    refused(&area(0));
    assert!(Request::decode(&area(2048).encode()).is_ok());
    refused(&area(2049));
    for name in ["", "a\nb", &"a".repeat(128)] {
        refused(&Request {
            name: Some(name.to_owned()),
            ..request()
        });
    }
    let mut long = request();
    long.tpm.model = "12345678901234567".to_owned();
    refused(&long);

    for (endorsement_key, state) in [(9, 1), (0, 0), (0, 8193)] {
        let message = Challenge {
            endorsement_key,
            state: vec![1; state],
            ..challenge()
        };
        let refusal = Challenge::decode(&message.encode()).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    }
    for secret in [0, 65] {
        let message = Answer {
            secret: vec![1; secret],
            ..answer()
        };
        let refusal = Answer::decode(&message.encode()).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    }
    for count in [0, 9] {
        let message = Issued {
            certificates: vec![vec![0x30]; count],
        };
        let refusal = Issued::decode(&message.encode()).unwrap_err();
        assert_eq!(refusal.code, Code::MessageForm);
    }
}
