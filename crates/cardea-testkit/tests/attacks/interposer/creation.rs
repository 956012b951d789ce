//! Cards being created.

use cardea_card::gids;
use cardea_card::record::{CardRecord, IndexRole, TpmRecord};
use cardea_card::token::{AdminForm, PinReference, Unblocker};
use cardea_testkit::bare::BarePins as _;
use cardea_testkit::software::card_record;
use cardea_tpm::policy::{
    NV_DEFINED, REF_INIT, ZERO, a_hash, index_policy, init_policy, name_of, nv_public, role_ref,
    signed,
};
use cardea_tpm::{IntentIndex, NewCard, NewSecrets, PreparedCard};

use super::adversary::Conversation;
use super::world::{Ending, Report, World};
use super::{Operation, gains, show};
use crate::bench::{Bench, Kind, PIN, PUK, SECOND_PIN, THIRD_PIN, admin_key, pin};
use crate::raw::{Auth, EMPTY, Entity, OWNER, Session, cc, sized};
use crate::vault::Said;
use crate::wire::parts;

struct Creation {
    row: &'static str,
    with: With,
    stride: usize,
    share: usize,
}

/// What a new card has besides its PIN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Administrator,
    /// Random first values, and a PUK.
    FirstValues,
    Nothing,
    Puk,
}

struct Stage {
    prepared: Option<PreparedCard>,
    intent: Vec<IntentIndex>,
    made: Option<CardRecord>,
}

/// A card that is prepared: nothing of it is in the TPM yet.
fn prepare(bench: &Bench, with: With) -> Result<PreparedCard, cardea_tpm::TpmError> {
    let given = |puk: Option<&[u8]>, admin_key| NewSecrets::Given {
        pin: pin(PIN),
        puk: puk.map(pin),
        admin_key,
    };
    let secrets = match with {
        With::Administrator => given(None, Some(admin_key())),
        With::FirstValues => NewSecrets::Random { puk: true },
        With::Nothing => given(None, None),
        With::Puk => given(Some(PUK), None),
    };
    bench.service.prepare_card(&[], NewCard::new(secrets))
}

fn record(tpm: TpmRecord) -> CardRecord {
    let length = |typed: &[u8]| u8::try_from(typed.len()).unwrap();
    let has_puk = tpm.indices.iter().any(|index| index.role == IndexRole::Puk);
    let puk = has_puk.then(|| length(PUK));
    let mut record = card_record(gids::blank_card(), length(PIN), puk);
    record.tpm = tpm;
    record
}

impl Operation for Creation {
    type Stage = Stage;
    type Rest = Stage;

    fn row(&self) -> &'static str {
        self.row
    }

    fn stride(&self) -> usize {
        self.stride
    }

    fn share(&self) -> usize {
        self.share
    }

    fn is_slow(&self) -> bool {
        self.with == With::Administrator
    }

    fn world(&self) -> World {
        World::new(Kind::Plain, &[])
    }

    fn prepare(&self, world: &mut World) -> Stage {
        world.bench.restart();
        let prepared = prepare(&world.bench, self.with).unwrap();
        Stage {
            intent: prepared.intent(),
            prepared: Some(prepared),
            made: None,
        }
    }

    fn run(&self, world: &World, stage: &mut Stage) -> Report {
        let prepared = stage.prepared.take().unwrap();
        let provisional = prepared.provisional().cloned();
        match world.bench.service.create_card(prepared, &mut |_| {}) {
            Ok(tpm) => {
                let mut record = record(tpm);
                record.provisional = provisional;
                stage.made = Some(record);
                Report::Done(Vec::new())
            }
            Err(error) => Report::failure(&error),
        }
    }

    fn end(&self, stage: Stage) -> Stage {
        stage
    }

    fn gains(&self, world: &World, rest: &Stage, _: &Report, heard: &Conversation) -> Vec<String> {
        let sessions = heard.sessions.iter();
        let mut found: Vec<_> = sessions
            .filter_map(|session| take_over(&world.bench, session, &rest.intent, heard))
            .collect();
        if let (Some(made), true) = (&rest.made, found.is_empty()) {
            found.extend(gains(world, made, heard));
        }
        found
    }

    fn settle(
        &self,
        world: &mut World,
        rest: Stage,
        report: &Report,
        heard: &Conversation,
    ) -> Result<Ending, String> {
        let bench = &world.bench;
        let mut ending = report.ending();
        if let Some(made) = &rest.made {
            match check_functions(bench, made, self.with) {
                Err(_) if has_spoilt_approval(heard) => ending = Ending::Misreported,
                checked => checked?,
            }
        }
        let undone = bench.service.undo_intent(&rest.intent);
        undone.map_err(|error| format!("the creation cannot be undone: {error}"))?;
        if rest.intent.iter().any(|index| exists(bench, index.handle)) {
            return Err("an index remains after the creation was undone".into());
        }
        Ok(ending)
    }
}

pub(super) fn exists(bench: &Bench, index: u32) -> bool {
    let answer = bench.send(cc::NV_READ_PUBLIC, &[Entity::plain(index)], &[], &[]);
    answer.code == 0
}

/// VerifySignature's response has no HMAC. With another ticket in it a card is made that lacks an approval: what
/// needs it fails later, and nobody gains by it.
fn has_spoilt_approval(heard: &Conversation) -> bool {
    let mut lines = heard.lines.iter();
    lines.any(|line| line.place.code == cc::VERIFY_SIGNATURE && line.told != line.answered)
}

/// Checks that a new card does everything that its kind can do, so that every approval is used.
fn check_functions(bench: &Bench, made: &CardRecord, with: With) -> Result<(), String> {
    let checked = bench.service.check_card(made);
    checked.map_err(|fault| format!("the new card is not intact: {fault}"))?;
    let mut token = bench.service.token(made).unwrap();
    let failed = |what: &'static str| move |error| format!("{what} of the new card fails: {error}");
    if let Some(first) = &made.provisional {
        for (reference, value) in [(PinReference::Pin, PIN), (PinReference::Puk, PUK)] {
            let set = token.initialise(reference, first, Some(&pin(value)));
            set.map_err(|error| failed("initialisation")(error.to_string()))?;
        }
    }
    let mut change = |reference, old, new| {
        let changed = token.change(reference, &pin(old), &pin(new));
        changed.map_err(|error| failed("a change")(error.to_string()))
    };
    change(PinReference::Pin, PIN, SECOND_PIN)?;
    if [With::FirstValues, With::Puk].contains(&with) {
        change(PinReference::Puk, PUK, THIRD_PIN)?;
        let verified = token.verify(PinReference::Puk, &pin(THIRD_PIN));
        verified.map_err(|error| failed("the PUK")(error.to_string()))?;
        let unblocked = token.unblock(Unblocker::Puk, &pin(PIN));
        unblocked.map_err(|error| failed("unblocking")(error.to_string()))?;
    }
    drop(token);
    if with == With::Administrator {
        let mut card = bench.open(made);
        for form in [AdminForm::Mutual, AdminForm::External] {
            if !Said::new(&mut card, form).say(&mut card) {
                return Err(failed("the administrator")(format!("{form:?}")));
            }
        }
    }
    Ok(())
}

/// Uses a session that the birth key's signature may have armed in the way that it would be armed for: deletes the
/// PIN's index and creates it again with another PIN.
fn take_over(
    bench: &Bench,
    session: &Session,
    intent: &[IntentIndex],
    heard: &Conversation,
) -> Option<String> {
    let birth = heard.lines.iter().find_map(|line| {
        if line.place.code != cc::LOAD_EXTERNAL {
            return None;
        }
        // Empty private part, public part, hierarchy.
        let parameters = parts(&line.command)?.parameters;
        Some(name_of(&parameters[4..parameters.len() - 4]))
    })?;
    let policy = index_policy(&birth, IndexRole::Pin);
    if !complete(bench, session, &birth, heard)? {
        return None;
    }
    let handle = intent[0].handle;
    let answer = bench.send(cc::NV_READ_PUBLIC, &[Entity::plain(handle)], &[], &[]);
    if answer.code == 0 {
        let length = usize::from(u16::from_be_bytes([answer.body[0], answer.body[1]]));
        let present = Entity::named(handle, &name_of(&answer.body[2..2 + length]));
        let entities = [Entity::plain(OWNER), present];
        bench.send(cc::NV_UNDEFINE_SPACE, &entities, &[EMPTY], &[]);
    }
    let public = nv_public(handle, NV_DEFINED, &policy);
    let parameters = [sized(&[0x66; 32]), sized(&public)].concat();
    let entities = [Entity::plain(OWNER)];
    bench.send(cc::NV_DEFINE_SPACE, &entities, &[EMPTY], &parameters);
    let unwritten = Entity::named(handle, &name_of(&public));
    let data = [&sized(&[0, 0, 0, 0, 0, 0, 0, 5])[..], &[0, 0]].concat();
    let auth = [Auth::Session(session, &[])];
    let entities = [unwritten.clone(), unwritten];
    let written = bench.send(cc::NV_WRITE, &entities, &auth, &data);
    (written.code == 0).then(|| "creates the card's counter again with another PIN".into())
}

/// Completes the policy of the first write in a session that the birth key's signature has armed; false if it has
/// not.
fn complete(
    bench: &Bench,
    session: &Session,
    birth: &[u8; 34],
    heard: &Conversation,
) -> Option<bool> {
    let digest = bench.policy_digest(session.handle)?;
    let armed = signed(&ZERO, birth, REF_INIT);
    let approved = init_policy(birth);
    if digest == armed {
        bench.policy_command_code(session, cc::NV_WRITE);
    }
    if digest == armed || digest == approved {
        let role = role_ref(IndexRole::Pin);
        let wanted = a_hash(&approved, role);
        // VerifySignature's ticket was on the bus.
        let ticket = heard.lines.iter().find_map(|line| {
            let is_wanted = line.command.get(16..)?.starts_with(&wanted);
            (line.place.code == cc::VERIFY_SIGNATURE && is_wanted)
                .then(|| line.answered.as_ref()?.get(10..))?
        })?;
        bench.policy_authorize(session, &approved, role, birth, ticket);
        return Some(true);
    }
    Some(digest == index_policy(birth, IndexRole::Pin))
}

#[test]
fn creation() {
    show(&Creation {
        row: "creation",
        with: With::Nothing,
        stride: 3,
        share: 1,
    });
}

#[test]
fn creation_with_a_puk() {
    show(&Creation {
        row: "creation, PUK",
        with: With::Puk,
        stride: 5,
        share: 3,
    });
}

#[test]
fn creation_in_the_initialisation_state() {
    show(&Creation {
        row: "creation, initialisation state",
        with: With::FirstValues,
        stride: 5,
        share: 4,
    });
}

#[test]
fn creation_with_an_administrator() {
    show(&Creation {
        row: "creation, administrator",
        with: With::Administrator,
        stride: 7,
        share: 29,
    });
}

/// What a TPM has to show before cards are created in it.
struct Probe;

impl Operation for Probe {
    type Stage = ();
    type Rest = ();

    fn row(&self) -> &'static str {
        "probe of the TPM"
    }

    fn stride(&self) -> usize {
        3
    }

    fn share(&self) -> usize {
        5
    }

    /// Its value is random and used once.
    fn compares_an_entry(&self) -> bool {
        false
    }

    fn world(&self) -> World {
        World::new(Kind::Plain, &[])
    }

    fn prepare(&self, world: &mut World) {
        world.bench.restart();
    }

    fn run(&self, world: &World, _: &mut ()) -> Report {
        match prepare(&world.bench, With::Nothing) {
            Ok(_) => Report::Done(Vec::new()),
            Err(error) => Report::failure(&error),
        }
    }

    fn end(&self, _: ()) {}

    fn gains(&self, world: &World, _: &(), _: &Report, heard: &Conversation) -> Vec<String> {
        gains(world, &world.record, heard)
    }

    fn settle(
        &self,
        world: &mut World,
        _: (),
        report: &Report,
        _: &Conversation,
    ) -> Result<Ending, String> {
        // Another probe removes what this one may have left.
        let again = prepare(&world.bench, With::Nothing);
        again.map_err(|error| format!("the TPM is not fit any more: {error}"))?;
        let indices = world.bench.service.defined_indices().unwrap();
        if indices.len() != world.record.tpm.indices.len() {
            return Err("an index of the probe remains".into());
        }
        Ok(report.ending())
    }
}

#[test]
fn probe_of_the_tpm() {
    show(&Probe);
}
