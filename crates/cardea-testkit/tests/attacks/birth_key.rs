//! Root has made the card with a program of its own, and has kept the key that approves its policies.
//!
//! Everything about such a card looks as it must. Whether the key is of use later is what tells the forms of card apart.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_card::token::{KeyClass, PinReference};
use cardea_card::weakened::KNOWN_BIRTH_KEY;
use cardea_testkit::multiplexer::PowerEvent;
use cardea_testkit::tpm_card;
use cardea_tpm::policy::{
    Branches, NV_DEFINED, Names, REF_INIT, X_DEFINED, a_hash, cc as policy_cc, command_code,
    first_content, name_of, nv_public, role_ref, sealed_index_policy, sealed_init_policy,
    signed_hash, x_public,
};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};

use crate::bench::{ADMIN_KEY, Bench, Outcome, PIN, index, pin, signs, succeeds_if, value};
use crate::raw::{Auth, EMPTY, Entity, OWNER, Session, cc, sized};

const ROOT_PIN: &[u8] = b"pin-of-root";

/// A limit that is none.
const NO_LIMIT: u32 = 4_000_000_000;

/// Against a card whose policies the birth key approves.
pub(crate) fn kept_for_a_card_of_form_a() -> Outcome {
    let bench = Bench::new();
    let record = with_key(&bench, false);
    bench.mux.power(PowerEvent::Reset);
    Root::new(&bench, &record).approves()
}

/// Against a card whose policies are sealed, after the reset that closes the gate.
pub(crate) fn kept_for_a_card_of_form_s() -> Outcome {
    let bench = Bench::new();
    let record = with_key(&bench, true);
    let root = Root::new(&bench, &record);
    // Armed while the gate is open, and put aside.
    let armed = root.init_session(true);
    let saved = bench.save(armed.handle).body;
    bench.mux.power(PowerEvent::Reset);
    succeeds_if!(
        bench.load_context(&saved).code == 0,
        "a session outlives the reset that closes the gate"
    );
    let root = Root::new(&bench, &record);
    root.approves()?;
    root.writes_again()
}

fn with_key(bench: &Bench, attests: bool) -> CardRecord {
    let make = match attests {
        true => tpm_card::new_attested_record,
        false => tpm_card::new_record,
    };
    let gids = cardea_card::gids::created_card(cardea_card::record::CardId::new([1; 16]));
    let record = make(&bench.service, gids, PIN, None, Some(&ADMIN_KEY));
    bench.with_keys(&record, &[KeyClass::Session])
}

/// Root with the birth key.
struct Root<'a> {
    bench: &'a Bench,
    record: &'a CardRecord,
    key: SigningKey,
    birth_name: [u8; 34],
    pin: Entity,
}

impl<'a> Root<'a> {
    fn new(bench: &'a Bench, record: &'a CardRecord) -> Self {
        let pin = index(record, IndexRole::Pin);
        Self {
            bench,
            record,
            key: SigningKey::from_slice(&KNOWN_BIRTH_KEY).unwrap(),
            birth_name: name_of(&record.tpm.birth_public),
            pin: Entity::named(pin.handle, &pin.name),
        }
    }

    /// The birth key's public half in the TPM. The daemon flushes what it does not know, so it is loaded for each use.
    fn birth(&self) -> Entity {
        let public = [&[0, 0][..], &sized(&self.record.tpm.birth_public)].concat();
        let parameters = [&public[..], &OWNER.to_be_bytes()].concat();
        let loaded = self.bench.send(cc::LOAD_EXTERNAL, &[], &[], &parameters);
        Entity::named(loaded.handle(), &self.birth_name)
    }

    /// TPMT_SIGNATURE.
    fn signature(&self, digest: &[u8; 32]) -> Vec<u8> {
        let signature: Signature = self.key.sign_prehash(digest).unwrap();
        let bytes = signature.to_bytes();
        let (r, s) = bytes.split_at(32);
        [&[0, 0x18, 0, 0x0B][..], &sized(r), &sized(s)].concat()
    }

    /// A limit and a PIN of root's, by approvals of root's.
    fn approves(&self) -> Outcome {
        let policy_ref = role_ref(IndexRole::Pin);
        for command in [policy_cc::NV_WRITE, policy_cc::NV_CHANGE_AUTH] {
            let digest = command_code(&[0; 32], command);
            let approved = a_hash(&digest, policy_ref);
            let parameters = [sized(&approved), self.signature(&approved)].concat();
            let birth = self.birth();
            let entities = [birth.clone()];
            let ticket = self
                .bench
                .send(cc::VERIFY_SIGNATURE, &entities, &[], &parameters);
            self.bench.flush(birth.handle);
            let session = self.bench.policy_session();
            self.bench.policy_command_code(&session, command);
            let name = &self.birth_name;
            self.bench
                .policy_authorize(&session, &digest, policy_ref, name, &ticket.body);
            self.uses(&session, command)?;
            self.bench.flush(session.handle);
        }
        self.signs()
    }

    /// A limit or a PIN of root's, in a session that is approved or not.
    fn uses(&self, session: &Session, command: u32) -> Outcome {
        if command == policy_cc::NV_WRITE {
            let code = self.write(&self.pin, session, &first_content(NO_LIMIT));
            succeeds_if!(code == 0, "root writes a limit of its own");
            return Ok(());
        }
        let own = value(self.record, IndexRole::Pin, ROOT_PIN);
        let entities = [self.pin.clone()];
        let auth = [Auth::Session(session, &[])];
        self.bench.send(command, &entities, &auth, &sized(&own));
        Ok(())
    }

    fn write(&self, index: &Entity, session: &Session, data: &[u8]) -> u32 {
        let entities = [index.clone(), index.clone()];
        let auth = [Auth::Session(session, &[])];
        let parameters = [&sized(data)[..], &[0, 0]].concat();
        self.bench
            .send(cc::NV_WRITE, &entities, &auth, &parameters)
            .code
    }

    /// A session under the policy of a first write, as far as the TPM goes along.
    fn init_session(&self, asserts_gate: bool) -> Session {
        let session = self.bench.policy_session();
        let signature = self.signature(&signed_hash(&session.nonce_tpm, REF_INIT));
        let parameters = [
            &sized(&session.nonce_tpm)[..],
            &[0, 0],
            &sized(REF_INIT),
            &[0; 4],
            &signature,
        ]
        .concat();
        let birth = self.birth();
        let entities = [birth.clone(), Entity::plain(session.handle)];
        let code = self
            .bench
            .send(cc::POLICY_SIGNED, &entities, &[], &parameters)
            .code;
        assert_eq!(code, 0, "root has the key");
        self.bench.flush(birth.handle);
        if asserts_gate {
            let made = self.sealed().made_at_reset.to_be_bytes();
            let parameters = [&sized(&made)[..], &[0, 16, 0, 0]].concat();
            self.bench
                .policy(&session, cc::POLICY_COUNTER_TIMER, &parameters);
        }
        self.bench
            .policy_command_code(&session, policy_cc::NV_WRITE);
        session
    }

    fn sealed(&self) -> &cardea_card::record::SealedPolicies {
        self.record.tpm.sealed_policies.as_ref().unwrap()
    }

    /// X and the PIN's index, as they are and made again.
    fn writes_again(&self) -> Outcome {
        let sealed = self.sealed();
        let init = sealed_init_policy(&self.birth_name, sealed.made_at_reset);
        let [x, unwritten_x] = [0x2000_0000, 0].map(|written| {
            let public = x_public(sealed.handle, X_DEFINED | written, &init);
            Entity::named(sealed.handle, &name_of(&public))
        });
        let policy = sealed_index_policy(x.name().try_into().unwrap());
        let defined = nv_public(self.pin.handle, NV_DEFINED, &policy);
        let unwritten = Entity::named(self.pin.handle, &name_of(&defined));
        // An own branch would let root do everything.
        let own = [
            &[0, 0x0B][..],
            &command_code(&[0; 32], policy_cc::NV_CHANGE_AUTH),
        ]
        .concat();
        let value = value(self.record, IndexRole::Pin, ROOT_PIN);
        for asserts_gate in [true, false] {
            let session = self.init_session(asserts_gate);
            let code = self.write(&x, &session, &own);
            succeeds_if!(code == 0, "root writes the policies again");
            self.bench.flush(session.handle);
            let session = self.init_session(asserts_gate);
            self.authorize(&session);
            let code = self.write(&self.pin, &session, &first_content(NO_LIMIT));
            succeeds_if!(code == 0, "root writes a limit of its own");
            self.bench.flush(session.handle);
        }
        self.make_again(&self.pin, &value, &defined);
        for asserts_gate in [true, false] {
            let session = self.init_session(asserts_gate);
            self.authorize(&session);
            self.write(&unwritten, &session, &first_content(5));
            self.bench.flush(session.handle);
        }
        self.signs()?;
        self.make_again(&x, &[], &x_public(sealed.handle, X_DEFINED, &init));
        for asserts_gate in [true, false] {
            let session = self.init_session(asserts_gate);
            let code = self.write(&unwritten_x, &session, &own);
            succeeds_if!(code == 0, "root writes the policies of a new index");
            self.bench.flush(session.handle);
        }
        self.signs()
    }

    /// Root is the owner: an index goes, and one with the same public area comes.
    fn make_again(&self, index: &Entity, value: &[u8], public: &[u8]) {
        let owner = Entity::plain(OWNER);
        let entities = [owner.clone(), index.clone()];
        let gone = self
            .bench
            .send(cc::NV_UNDEFINE_SPACE, &entities, &[EMPTY], &[]);
        assert_eq!(gone.code, 0);
        let parameters = [sized(value), sized(public)].concat();
        let made = self
            .bench
            .send(cc::NV_DEFINE_SPACE, &[owner], &[EMPTY], &parameters);
        assert_eq!(made.code, 0);
    }

    /// PolicyOR of the card's branches and PolicyAuthorizeNV.
    fn authorize(&self, session: &Session) {
        let pin = index(self.record, IndexRole::Pin);
        let adm = index(self.record, IndexRole::Adm);
        let names = Names {
            birth: &self.birth_name,
            pin: &pin.name,
            adm: Some(&adm.name),
            puk: None,
        };
        let sealed = self.sealed();
        let branches = Branches::new(&names, sealed.made_at_reset, pin.limit);
        let mut list = u32::try_from(branches.all().len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        for branch in branches.all() {
            list.extend(sized(branch));
        }
        self.bench.policy(session, cc::POLICY_OR, &list);
        let x = Entity::plain(sealed.handle);
        let entities = [x.clone(), x, Entity::plain(session.handle)];
        self.bench
            .send(cc::POLICY_AUTHORIZE_NV, &entities, &[EMPTY], &[]);
    }

    fn signs(&self) -> Outcome {
        let mut card = self.bench.open_unchecked(self.record);
        let mut connection = card.connect();
        let root_pin = pin(ROOT_PIN);
        let verified = card.verify_pin(&mut connection, PinReference::Pin, &root_pin);
        let reference = self.record.keys[0].reference;
        succeeds_if!(
            verified.is_ok() && signs(&mut card, &mut connection, reference),
            "root signs with a PIN of its own"
        );
        Ok(())
    }
}
