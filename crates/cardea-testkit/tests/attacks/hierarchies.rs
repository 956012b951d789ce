//! Root opens the TPM's hierarchies by policies of its own, before anybody sets their authorisations.

use cardea_card::record::IndexRole;
use cardea_tpm::{Hierarchy, HierarchyAuth};

use crate::bench::{Bench, Kind, Outcome, index, succeeds_if};
use crate::raw::{Auth, ENDORSEMENT, Entity, LOCKOUT, OWNER, Session, cc, sized};

/// A policy that was set while the authorisations were empty is used after they are set: for an index of a card, for
/// an owner authorisation of root's, to end a lockout, and to clear the TPM.
pub(crate) fn policies_from_before() -> Outcome {
    let bench = Bench::new();
    let record = bench.record(Kind::Plain);
    for hierarchy in [OWNER, LOCKOUT, ENDORSEMENT] {
        bench.open_by_policy(hierarchy);
        let opened = bench.by_policy(cc::HIERARCHY_CHANGE_AUTH, &[hierarchy], &[0, 0]);
        assert_eq!(opened, 0, "the policy of 0x{hierarchy:08X} opens it");
    }
    // As `cardea tpm provision` does.
    let auth = |value: &[u8]| HierarchyAuth::new(value).unwrap();
    let (none, owner, lockout) = (auth(b""), auth(b"the owner's"), auth(b"the lockout's"));
    for (hierarchy, new) in [(Hierarchy::Lockout, &lockout), (Hierarchy::Owner, &owner)] {
        let done = bench.service.set_hierarchy_auth(hierarchy, &none, new);
        drop(done.unwrap());
        bench
            .service
            .empty_policy(Hierarchy::Endorsement, &none)
            .unwrap();
    }

    let pin = index(&record, IndexRole::Pin);
    let entities = [Entity::plain(OWNER), Entity::named(pin.handle, &pin.name)];
    let session = bench.met_by_everybody();
    let undefined = bench.send(
        cc::NV_UNDEFINE_SPACE,
        &entities,
        &[Auth::Session(&session, &[])],
        &[],
    );
    bench.flush(session.handle);
    succeeds_if!(undefined.code == 0, "root deletes the counter of a card");
    for hierarchy in [OWNER, LOCKOUT, ENDORSEMENT] {
        succeeds_if!(
            bench.by_policy(cc::HIERARCHY_CHANGE_AUTH, &[hierarchy], &[0, 0]) == 0,
            "root sets the authorisation of 0x{hierarchy:08X}"
        );
    }
    succeeds_if!(
        bench.by_policy(cc::LOCK_RESET, &[LOCKOUT], &[]) == 0,
        "root ends the lockout"
    );
    succeeds_if!(
        bench.by_policy(cc::CLEAR, &[LOCKOUT], &[]) == 0,
        "root clears the TPM"
    );
    bench.service.check_card(&record).unwrap();
    Ok(())
}

impl Bench {
    /// A session whose policy everybody meets: commands come from locality 0.
    fn met_by_everybody(&self) -> Session {
        let session = self.policy_session();
        let handle = [Entity::plain(session.handle)];
        let done = self.send(cc::POLICY_LOCALITY, &handle, &[], &[1]);
        assert_eq!(done.code, 0);
        session
    }

    /// TPM2_SetPrimaryPolicy of that policy, with the hierarchy's empty authorisation.
    fn open_by_policy(&self, hierarchy: u32) {
        let session = self.met_by_everybody();
        let handle = [Entity::plain(session.handle)];
        let digest = self.send(cc::POLICY_GET_DIGEST, &handle, &[], &[]);
        self.flush(session.handle);
        let parameters = [&sized(&digest.body[2..])[..], &[0, 0x0B]].concat();
        let hierarchy = [Entity::plain(hierarchy)];
        let empty = [Auth::Password(&[])];
        let set = self.send(cc::SET_PRIMARY_POLICY, &hierarchy, &empty, &parameters);
        assert_eq!(set.code, 0);
    }

    /// A command of a hierarchy by that policy: the TPM's code.
    fn by_policy(&self, command: u32, handles: &[u32], parameters: &[u8]) -> u32 {
        let session = self.met_by_everybody();
        let entities: Vec<Entity> = handles
            .iter()
            .map(|handle| Entity::plain(*handle))
            .collect();
        let auth = [Auth::Session(&session, &[])];
        let code = self.send(command, &entities, &auth, parameters).code;
        self.flush(session.handle);
        code
    }
}
