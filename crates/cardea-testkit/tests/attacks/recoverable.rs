//! Recoverable keys: copies for others than the named recovery keys, and recovery keys that are not what they seem.

use cardea_card::record::{CardRecord, IndexRole, KeyRecord};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyOrigin, PinReference, RecoveryKey};
use cardea_tpm::describe_keys;
use cardea_tpm::policy::{
    ZERO, class_ref, command_code, index_policy, key_policy, key_template, name_of, nv_defined,
    nv_public, recoverable_template, recovery_branches, recovery_target,
};
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::bench::{
    Bench, Kind, Outcome, PIN, counter_name, counter_object, index, new_key, pin, succeeds_if,
    value,
};
use crate::import_bus::{Recorded, SRK, own_parent, try_rewrap};
use crate::raw::{
    Answer, Auth, EMPTY, Entity, NULL, OWNER, RETRY, Reader, Session, TRANSIENT, cc, no_pcrs,
    sensitive, sized,
};

/// Private halves of recovery keys.
pub(crate) const ESCROW: [u8; 32] = *b"escrow-scalar-Qv3\x91-of-32-bytes!!";
const ATTACKERS: [u8; 32] = *b"scalar-of-the-attacker-\xA7-32-byte";

/// TPM_RC_ATTRIBUTES of the first handle: an object that is bound to its TPM or its parent.
const BOUND: u32 = 0x182;

/// TPM_RC_INTEGRITY of Import's third parameter.
const CHANGED: u32 = 0x3DF;

/// What a certificate of such a key names.
pub(crate) fn recovery_key(scalar: &[u8; 32]) -> RecoveryKey {
    let (x, y) = point_of(scalar);
    RecoveryKey {
        x,
        y,
        certificate: b"a certificate".to_vec(),
    }
}

fn point_of(scalar: &[u8]) -> ([u8; 32], [u8; 32]) {
    let scalar = p256::SecretKey::from_slice(scalar).unwrap();
    let point = scalar.public_key().to_sec1_point(false);
    let coordinate = |bytes: Option<_>| -> [u8; 32] {
        let bytes: &p256::FieldBytes = bytes.unwrap();
        bytes.as_slice().try_into().unwrap()
    };
    (coordinate(point.x()), coordinate(point.y()))
}

/// A card with further recoverable keys, made under the PIN.
pub(crate) fn with_recoverable(
    bench: &Bench,
    record: &CardRecord,
    by: &[&[RecoveryKey]],
) -> CardRecord {
    let mut card = bench.open(record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    for keys in by {
        let new = new_key(KeyClass::Session);
        card.generate_recoverable_key(&mut connection, KeyAlgorithm::P256, &new, keys)
            .unwrap();
    }
    card.record().clone()
}

/// The branches of a recoverable key's policy, as anybody computes them.
fn branches(record: &CardRecord, key: &KeyRecord) -> Vec<[u8; 32]> {
    let targets = key.recovery.as_deref().unwrap_or_default();
    let names: Vec<_> = targets.iter().map(|it| name_of(&it.public)).collect();
    let policy = key_policy(&counter_name(record, IndexRole::Pin), KeyClass::Session);
    recovery_branches(&policy, &names)
}

/// TPM2_Duplicate without an inner wrap.
fn duplicate(bench: &Bench, key: &Entity, parent: &Entity, auth: Auth<'_>) -> u32 {
    let entities = [key.clone(), parent.clone()];
    let parameters = [0, 0, 0, 0x10];
    let answer = bench.send(cc::DUPLICATE, &entities, &[auth], &parameters);
    answer.code
}

/// Whoever duplicates: what they have, and a session in which they show it.
struct Duplicator<'a> {
    bench: &'a Bench,
    record: &'a CardRecord,
    branches: Vec<[u8; 32]>,
    key: Entity,
    /// Whoever is named; it need not be loaded.
    target: Entity,
    target_public: Vec<u8>,
}

/// What is put into a policy session before PolicyOR.
type Way = (&'static str, fn(&Duplicator<'_>, &Session, &Entity));

const WAYS: [Way; 6] = [
    ("nothing", |_, _, _| {}),
    ("the branch for the named recovery key", |it, session, _| {
        it.select(session, &it.target);
    }),
    ("a branch for the new parent", |it, session, parent| {
        it.select(session, parent);
    }),
    ("the right PIN", |it, session, _| it.prove(session)),
    ("the right PIN for Duplicate", |it, session, _| {
        it.prove(session);
        it.bench.policy_command_code(session, cc::DUPLICATE);
    }),
    ("the command alone", |it, session, _| {
        it.bench.policy_command_code(session, cc::DUPLICATE);
    }),
];

impl Duplicator<'_> {
    /// PolicyDuplicationSelect (TPM 2.0 Part 3 §23.15) without the object's Name.
    fn select(&self, session: &Session, parent: &Entity) {
        let parameters = [&sized(self.key.name())[..], &sized(parent.name()), &[0]].concat();
        let code = cc::POLICY_DUPLICATION_SELECT;
        self.bench.policy(session, code, &parameters);
    }

    fn prove(&self, session: &Session) {
        let counter = self.bench.counter(self.record, IndexRole::Pin);
        let right = value(self.record, IndexRole::Pin, PIN);
        let reference = class_ref(KeyClass::Session);
        let auth = Auth::Password(&right);
        let code = self.bench.policy_secret(&counter, auth, session, reference);
        assert_eq!(code, 0, "the PIN is right");
        self.bench.put_away(&counter);
    }

    fn or(&self, session: &Session) {
        policy_or(self.bench, session, &self.branches);
    }

    /// Tries everything with every new parent.
    fn tries_all(&self) -> Outcome {
        // The same each time that it is made.
        let own = own_parent(self.bench);
        self.bench.flush(own.handle);
        let parents = [
            ("a parent of their own", own),
            ("no parent", Entity::plain(NULL)),
            ("the storage root key", self.root()),
        ];
        let right = value(self.record, IndexRole::Pin, PIN);
        for (name, parent) in &parents {
            for (way, prepare) in WAYS {
                for is_or in [true, false] {
                    let session = self.bench.policy_session();
                    prepare(self, &session, parent);
                    if is_or {
                        self.or(&session);
                    }
                    let code = self.goes_to(parent, Auth::Session(&session, &[]));
                    self.bench.flush(session.handle);
                    succeeds_if!(code == 0, "{way} duplicates it to {name}");
                }
            }
            for password in [&[][..], &[0; 32], PIN, &right] {
                let code = self.goes_to(parent, Auth::Password(password));
                succeeds_if!(code == 0, "a password duplicates it to {name}");
            }
        }
        Ok(())
    }

    /// A TPM has few slots: the attackers' parent is there while it is needed.
    fn goes_to(&self, parent: &Entity, auth: Auth<'_>) -> u32 {
        if parent.handle < TRANSIENT || parent.handle >= SRK {
            return duplicate(self.bench, &self.key, parent, auth);
        }
        let own = own_parent(self.bench);
        assert_eq!(own.name(), parent.name());
        let code = duplicate(self.bench, &self.key, &own, auth);
        self.bench.flush(own.handle);
        code
    }

    fn root(&self) -> Entity {
        let public = self.bench.public_of(&Entity::plain(SRK));
        Entity::named(SRK, &name_of(&public))
    }

    /// To the named recovery key it can be duplicated at any time, which is what it is made for.
    fn reaches_the_target(&self) {
        let session = self.bench.policy_session();
        self.select(&session, &self.target);
        self.or(&session);
        let target = load_public(self.bench, &self.target_public);
        let auth = Auth::Session(&session, &[]);
        let code = duplicate(self.bench, &self.key, &target, auth);
        self.bench.flush(target.handle);
        self.bench.flush(session.handle);
        assert_eq!(code, 0, "what is tried above can be done at all");
    }

    /// Nor does the branch for duplication do anything else.
    fn signs_by_duplication(&self) -> Outcome {
        let session = self.bench.policy_session();
        self.select(&session, &self.target);
        self.or(&session);
        let code = self.bench.sign(&self.key, Auth::Session(&session, &[]));
        self.bench.flush(session.handle);
        succeeds_if!(code == 0, "the branch for duplication signs");
        Ok(())
    }
}

/// What the service has loaded goes: its slots are needed, and nobody asks it any more.
fn make_room(bench: &Bench) {
    for handle in bench.handles(TRANSIENT) {
        bench.flush(handle);
    }
}

/// LoadExternal of a public area.
fn load_public(bench: &Bench, public: &[u8]) -> Entity {
    let parameters = [&[0, 0][..], &sized(public), &0x4000_0001_u32.to_be_bytes()].concat();
    let answer = bench.send(cc::LOAD_EXTERNAL, &[], &[], &parameters);
    Entity::named(answer.handle(), &name_of(public))
}

/// Root with the device, the card file and even the PIN duplicates keys to parents that were not named.
pub(crate) fn duplicating_to_others() -> Outcome {
    let bench = Bench::new();
    let record = bench.with_keys(&bench.record(Kind::Plain), &[KeyClass::Session]);
    let record = with_recoverable(&bench, &record, &[&[recovery_key(&ESCROW)]]);
    make_room(&bench);
    for key in &record.keys {
        let (x, y) = point_of(&ESCROW);
        let target_public = recovery_target(&x, &y);
        let duplicator = Duplicator {
            bench: &bench,
            record: &record,
            branches: branches(&record, key),
            key: bench.load(&key.object.private, &key.object.public).unwrap(),
            target: Entity::named(NULL, &name_of(&target_public)),
            target_public,
        };
        duplicator.tries_all()?;
        duplicator.signs_by_duplication()?;
        if key.recovery.is_some() {
            duplicator.reaches_the_target();
        }
        bench.flush(duplicator.key.handle);
    }
    Ok(())
}

/// An ordinary key with a policy that allows duplication: its attributes bar it all the same. Without them it goes.
pub(crate) fn duplicating_what_is_bound() -> Outcome {
    let bench = Bench::new();
    // The storage root key is there once a card is.
    bench.record(Kind::Plain);
    let policy = command_code(&ZERO, cc::DUPLICATE);
    let ordinary = key_template(KeyAlgorithm::P256, KeyOrigin::Generated, &policy);
    let mut recoverable = recoverable_template(KeyAlgorithm::P256, &[policy, policy]);
    recoverable[10..42].copy_from_slice(&policy);
    let own = own_parent(&bench);
    let tried = |template: &[u8]| {
        let parameters = [&sensitive(&[], &[])[..], &sized(template), &no_pcrs()].concat();
        let srk = [Entity::plain(SRK)];
        let answer = bench.send(cc::CREATE, &srk, &[EMPTY], &parameters);
        assert_eq!(answer.code, 0);
        let mut reader = Reader(&answer.body[4..]);
        let (private, public) = (reader.sized().to_vec(), reader.sized().to_vec());
        let key = bench.load(&private, &public).unwrap();
        let session = bench.policy_session();
        bench.policy_command_code(&session, cc::DUPLICATE);
        let code = duplicate(&bench, &key, &own, Auth::Session(&session, &[]));
        bench.flush(session.handle);
        bench.flush(key.handle);
        code
    };
    let code = tried(&ordinary);
    succeeds_if!(code == 0, "an ordinary key is duplicated");
    assert_eq!(code, BOUND, "its attributes are what bars it");
    assert_eq!(tried(&recoverable), 0, "what is tried can be done at all");
    Ok(())
}

/// Root has shown its own recovery key when a key was made, and names an honest one in the file afterwards.
pub(crate) fn other_targets_shown() -> Outcome {
    let bench = Bench::new();
    let (honest, own) = (recovery_key(&ESCROW), recovery_key(&ATTACKERS));
    let both = [honest.clone(), own.clone()];
    let record = with_recoverable(
        &bench,
        &bench.record(Kind::Plain),
        &[&[own], &[honest], &both],
    );
    let shown = |record: &CardRecord| {
        let described = describe_keys(record).unwrap();
        described[0].is_some()
    };
    assert!(shown(&record), "as it was made");
    for (other, what) in [(1, "another"), (2, "a further")] {
        let mut forged = record.clone();
        forged.keys[0]
            .recovery
            .clone_from(&record.keys[other].recovery);
        succeeds_if!(shown(&forged), "the card shows {what} recovery key");
    }
    let mut forged = record.clone();
    forged.keys[2].recovery.clone_from(&record.keys[1].recovery);
    let described = describe_keys(&forged).unwrap();
    succeeds_if!(described[2].is_some(), "the card hides a recovery key");
    Ok(())
}

/// A certificate of the storage root key's own point is named when a key is made: the TPM itself opens such a copy for
/// anybody, by Rewrap.
pub(crate) fn copy_for_the_storage_root_key() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    let root = bench.public_of(&Entity::plain(SRK));
    let Some(point) = root
        .last_chunk::<68>()
        .filter(|point| point[..2] == [0, 32])
    else {
        // An RSA key is no recovery key.
        return Ok(());
    };
    let root = RecoveryKey {
        x: point[2..34].try_into().unwrap(),
        y: point[36..].try_into().unwrap(),
        certificate: b"a certificate".to_vec(),
    };
    let mut card = bench.open(&record);
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    let new = new_key(KeyClass::Session);
    let both = [recovery_key(&ESCROW), root.clone()];
    for keys in [&both[1..], &both] {
        let made = card.generate_recoverable_key(&mut connection, KeyAlgorithm::P256, &new, keys);
        if made.is_err() {
            continue;
        }
        let key = card.record().keys.last().unwrap();
        for target in key.recovery.iter().flatten() {
            let copy = Recorded {
                name: name_of(&key.object.public),
                duplicate: target.private.clone(),
                seed: target.seed.clone(),
            };
            let Ok(clear) = try_rewrap(&bench, SRK, NULL, &copy) else {
                continue;
            };
            // TPM2B_SENSITIVE ends with the scalar.
            let scalar = &clear.duplicate[clear.duplicate.len() - 32..];
            let (x, y) = point_of(scalar);
            let own = [sized(&x), sized(&y)].concat();
            succeeds_if!(
                key.object.public.ends_with(&own),
                "Rewrap yields the private key"
            );
        }
    }
    Ok(())
}

/// A recovery key in a TPM of its holder's, and a card's copies for it.
struct Elsewhere {
    bench: Bench,
    recovery: Entity,
    home: Bench,
    record: CardRecord,
}

impl Elsewhere {
    fn new() -> Self {
        let home = Bench::new();
        let by = [recovery_key(&ESCROW)];
        let record = with_recoverable(&home, &home.record(Kind::Plain), &[&by, &by]);
        let bench = Bench::new();
        // Whose storage root key is there afterwards.
        bench.record(Kind::Plain);
        make_room(&home);
        make_room(&bench);
        Self {
            recovery: escrow_in(&bench),
            bench,
            home,
            record,
        }
    }

    fn key(&self) -> &KeyRecord {
        &self.record.keys[0]
    }

    /// A command below a storage key without an authorisation value.
    fn below(&self, parent: &Entity, code: u32, parameters: &[u8]) -> Answer {
        let parent = std::slice::from_ref(parent);
        let send = || self.bench.send(code, parent, &[EMPTY], parameters);
        match send() {
            answer if answer.code == RETRY => send(),
            answer => answer,
        }
    }

    /// Import of the first key's copy, with some public area.
    fn import(&self, parent: &Entity, public: &[u8]) -> Answer {
        let copy = &self.key().recovery.as_ref().unwrap()[0];
        let parameters = [
            &[0, 0][..],
            &sized(public),
            &sized(&copy.private),
            &sized(&copy.seed),
            &[0x00, 0x10],
        ]
        .concat();
        self.below(parent, cc::IMPORT, &parameters)
    }

    /// The same key with the same Name, loaded below the recovery key.
    fn twin(&self) -> Entity {
        let public = &self.key().object.public;
        let answer = self.import(&self.recovery, public);
        assert_eq!(answer.code, 0, "its holder may");
        let private = Reader(&answer.body[4..]).sized().to_vec();
        let parameters = [sized(&private), sized(public)].concat();
        let loaded = self.below(&self.recovery, cc::LOAD, &parameters);
        self.bench.flush(self.recovery.handle);
        Entity::named(loaded.handle(), &name_of(public))
    }

    /// A session in which something was shown, for use.
    fn signs(&self, twin: &Entity, show: impl FnOnce(&Session)) -> u32 {
        let session = self.bench.policy_session();
        show(&session);
        policy_or(&self.bench, &session, &branches(&self.record, self.key()));
        let code = self.bench.sign(twin, Auth::Session(&session, &[]));
        self.bench.flush(session.handle);
        code
    }

    /// A PIN index with the first card's public area, and the right PIN. It cannot be written, which the Name has.
    fn index_made_again(&self) -> Option<Entity> {
        if counter_object(&self.record, IndexRole::Pin).is_some() {
            return None;
        }
        let index = index(&self.record, IndexRole::Pin);
        let policy = index_policy(&name_of(&self.record.tpm.birth_public), IndexRole::Pin);
        let public = nv_public(index.handle, nv_defined(self.record.tpm.mode), &policy);
        // The second computer's own card may have the handle.
        let taken = [Entity::plain(OWNER), Entity::plain(index.handle)];
        self.bench
            .send(cc::NV_UNDEFINE_SPACE, &taken, &[EMPTY], &[]);
        let right = value(&self.record, IndexRole::Pin, PIN);
        let parameters = [sized(&right), sized(&public)].concat();
        let owner = [Entity::plain(OWNER)];
        let defined = self
            .bench
            .send(cc::NV_DEFINE_SPACE, &owner, &[EMPTY], &parameters);
        assert_eq!(defined.code, 0);
        Some(Entity::named(index.handle, &name_of(&public)))
    }
}

/// The holder of a recovery key imports a copy with another policy or a password, so that the key works without the
/// card's PIN; and others import it below their own keys.
pub(crate) fn copy_changed_on_the_way() -> Outcome {
    let elsewhere = Elsewhere::new();
    let public = &elsewhere.key().object.public;
    let changed = |at: usize, byte: u8| {
        let mut changed = public.clone();
        changed[at] ^= byte;
        changed
    };
    for (what, forged) in [
        ("another policy", changed(10, 1)),
        ("a password", changed(7, 0x40)),
        (
            "another key's public area",
            elsewhere.record.keys[1].object.public.clone(),
        ),
    ] {
        let code = elsewhere.import(&elsewhere.recovery, &forged).code;
        succeeds_if!(code == 0, "it is imported with {what}");
        assert_eq!(code, CHANGED, "{what}");
    }
    let code = elsewhere.import(&Entity::plain(SRK), public).code;
    succeeds_if!(code == 0, "it is imported below the storage root key");
    let own = own_parent(&elsewhere.bench);
    let code = elsewhere.import(&own, public).code;
    succeeds_if!(code == 0, "it is imported below another key");
    Ok(())
}

/// As it is, the copy is the same key with the same policy, which nothing on another TPM satisfies: no password, no
/// ticket of the first one, no PIN index that is made to look like the first card's.
pub(crate) fn copy_used_on_another_tpm() -> Outcome {
    let elsewhere = Elsewhere::new();
    let (home, record) = (&elsewhere.home, &elsewhere.record);
    let counter = home.counter(record, IndexRole::Pin);
    let right = value(record, IndexRole::Pin, PIN);
    let reference = class_ref(KeyClass::Session);
    let first = home.policy_session();
    let ticket =
        home.policy_secret_ticket(&counter, Auth::Password(&right), &first, reference, 600);
    // At home the ticket is good.
    let key = elsewhere.key();
    let name = counter.name().to_vec();
    home.put_away(&counter);
    home.flush(first.handle);
    let loaded = home.load(&key.object.private, &key.object.public).unwrap();
    let session = home.policy_session();
    assert_eq!(home.policy_ticket(&session, &ticket, reference, &name), 0);
    policy_or(home, &session, &branches(record, key));
    let code = home.sign(&loaded, Auth::Session(&session, &[]));
    assert_eq!(code, 0, "the ticket is good at home");

    let twin = elsewhere.twin();
    for password in [&[][..], PIN, &right] {
        let code = elsewhere.bench.sign(&twin, Auth::Password(password));
        succeeds_if!(code == 0, "a password signs");
    }
    let nothing = elsewhere.signs(&twin, |_| {});
    succeeds_if!(nothing == 0, "a session without the PIN signs");
    let by_ticket = elsewhere.signs(&twin, |session| {
        elsewhere
            .bench
            .policy_ticket(session, &ticket, reference, &name);
    });
    succeeds_if!(by_ticket == 0, "a ticket of the first TPM signs");
    if let Some(index) = elsewhere.index_made_again() {
        for entity in [index.clone(), Entity::named(index.handle, &name)] {
            let by_index = elsewhere.signs(&twin, |session| {
                let auth = Auth::Password(&right);
                elsewhere
                    .bench
                    .policy_secret(&entity, auth, session, reference);
            });
            succeeds_if!(by_index == 0, "a PIN index of the attacker's signs");
        }
    }
    Ok(())
}

/// PolicyOR (TPM 2.0 Part 3 §23.6).
fn policy_or(bench: &Bench, session: &Session, branches: &[[u8; 32]]) {
    let count = u32::try_from(branches.len()).unwrap().to_be_bytes();
    let digests = branches.iter().flat_map(|digest| sized(digest));
    let list: Vec<u8> = count.into_iter().chain(digests).collect();
    bench.policy(session, cc::POLICY_OR, &list);
}

/// The recovery key as a storage key in a TPM: imported without a wrap, as its holder can.
fn escrow_in(bench: &Bench) -> Entity {
    let (x, y) = point_of(&ESCROW);
    let public = recovery_target(&x, &y);
    // TPMT_SENSITIVE: type, empty authorisation value, seed of a storage key, scalar.
    let area = [&[0, 0x23, 0, 0][..], &sized(&[7; 32]), &sized(&ESCROW)].concat();
    let parameters = [
        &[0, 0][..],
        &sized(&public),
        &sized(&sized(&area)),
        &[0, 0],
        &[0x00, 0x10],
    ]
    .concat();
    let srk = [Entity::plain(SRK)];
    let answer = bench.send(cc::IMPORT, &srk, &[EMPTY], &parameters);
    assert_eq!(answer.code, 0, "the recovery key is imported");
    let private = Reader(&answer.body[4..]).sized().to_vec();
    bench.load(&private, &public).unwrap()
}
