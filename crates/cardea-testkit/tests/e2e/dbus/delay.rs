//! A response of the administrator that comes too soon after wrong ones.

use cardea_testkit::bus::{BusClient, Dictionary, Refusal, secret};
use cardea_testkit::process::wait_for;
use zbus::OwnedObjectPath;

use super::Bench;
use super::bench::answer;

const NEW_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// A challenge context, and the right response to it.
struct Context<'a> {
    client: &'a BusClient,
    path: String,
    response: [u8; 8],
}

impl<'a> Context<'a> {
    fn new(client: &'a BusClient, card: &str) -> Self {
        let path: OwnedObjectPath = client
            .get(card, "Provisioning.GetChallengeContext", &())
            .unwrap();
        let challenge = client.property(path.as_str(), "ChallengeContext", "Challenge");
        let challenge: Vec<u8> = challenge.unwrap().try_into().unwrap();
        Self {
            client,
            path: path.to_string(),
            response: answer(&challenge),
        }
    }

    fn verify(&self, response: &[u8; 8]) -> Result<bool, Refusal> {
        let member = "ChallengeContext.VerifyResponse";
        self.client.get(&self.path, member, &secret(response))
    }

    fn right(&self) -> Result<bool, Refusal> {
        self.verify(&self.response)
    }
}

fn is_too_soon(answer: &Result<bool, Refusal>) -> bool {
    matches!(answer, Err((name, text)) if name == "ResponseTooSoon" && text.contains("give it again in"))
}

/// So many wrong responses that the next one has to wait for seconds.
fn guess(client: &BusClient, card: &str) {
    for _ in 0..7 {
        let context = Context::new(client, card);
        wait_for("a wrong response is looked at", || {
            let answered = context.verify(&[0; 8]);
            assert!(
                answered == Ok(false) || is_too_soon(&answered),
                "{answered:?}"
            );
            answered == Ok(false)
        });
    }
}

#[test]
fn response_that_comes_too_soon_costs_neither_its_challenge_nor_what_was_proven() {
    let bench = Bench::new();
    let card = bench.card("card", Dictionary::new());
    let client = bench.client(0);
    // On a slow machine the time may be over before the response comes: then it is accepted, and all begins anew.
    for attempt in 0.. {
        assert!(attempt < 5, "no response came too soon");
        let proven = Context::new(&client, &card);
        assert_eq!(proven.right(), Ok(true));
        guess(&client, &card);
        let waiting = Context::new(&client, &card);
        let (first, second) = (waiting.right(), proven.right());
        if !is_too_soon(&first) || !is_too_soon(&second) {
            assert!(first == Ok(true) || is_too_soon(&first), "{first:?}");
            continue;
        }
        // Whoever has proven to be the administrator still is.
        let values = (secret(b""), false, NEW_ID);
        client
            .call(&proven.path, "ChallengeContext.Provision", &values)
            .unwrap();
        assert_eq!(client.text(&card, "Card", "CardId"), NEW_ID);
        // The same challenge and the same response, later.
        wait_for("the response is looked at", || {
            let answered = waiting.right();
            assert!(
                answered == Ok(true) || is_too_soon(&answered),
                "{answered:?}"
            );
            answered == Ok(true)
        });
        return;
    }
}
