//! Policy commands into a session.

use super::{Answer, Auth, Entity, RETRY, Reader, Session, Ticket, cc, sized};
use crate::bench::Bench;

impl Bench {
    /// A policy command that needs no authorisation.
    pub(crate) fn policy(&self, session: &Session, code: u32, parameters: &[u8]) -> Answer {
        self.send(code, &[Entity::plain(session.handle)], &[], parameters)
    }

    /// PolicySecret of an entity into a session.
    pub(crate) fn policy_secret(
        &self,
        entity: &Entity,
        auth: Auth<'_>,
        session: &Session,
        policy_ref: &[u8],
    ) -> u32 {
        let parameters = [&[0; 4][..], &sized(policy_ref), &[0; 4]].concat();
        let entities = [entity.clone(), Entity::plain(session.handle)];
        let send = || self.send(cc::POLICY_SECRET, &entities, &[auth], &parameters);
        match send().code {
            RETRY => send().code,
            code => code,
        }
    }

    /// The same, with a ticket for so many seconds.
    pub(crate) fn policy_secret_ticket(
        &self,
        entity: &Entity,
        auth: Auth<'_>,
        session: &Session,
        policy_ref: &[u8],
        seconds: i32,
    ) -> Ticket {
        let nonce = sized(&session.nonce_tpm);
        let expiration = (-seconds).to_be_bytes();
        let parameters = [&nonce[..], &[0; 2], &sized(policy_ref), &expiration].concat();
        let entities = [entity.clone(), Entity::plain(session.handle)];
        let answer = self.send(cc::POLICY_SECRET, &entities, &[auth], &parameters);
        assert_eq!(answer.code, 0, "PolicySecret");
        Ticket::read(&mut answer.parameters(0, true))
    }

    /// PolicyTicket of an entity into a session.
    pub(crate) fn policy_ticket(
        &self,
        session: &Session,
        ticket: &Ticket,
        policy_ref: &[u8],
        name: &[u8],
    ) -> u32 {
        let parameters = [
            &sized(&ticket.timeout)[..],
            &[0, 0],
            &sized(policy_ref),
            &sized(name),
            &ticket.ticket,
        ]
        .concat();
        self.policy(session, cc::POLICY_TICKET, &parameters).code
    }

    pub(crate) fn policy_command_code(&self, session: &Session, code: u32) -> u32 {
        self.policy(session, cc::POLICY_COMMAND_CODE, &code.to_be_bytes())
            .code
    }

    pub(crate) fn policy_authorize(
        &self,
        session: &Session,
        digest: &[u8],
        policy_ref: &[u8],
        birth_name: &[u8],
        ticket: &[u8],
    ) -> u32 {
        let parameters = [
            &sized(digest)[..],
            &sized(policy_ref),
            &sized(birth_name),
            ticket,
        ]
        .concat();
        self.policy(session, cc::POLICY_AUTHORIZE, &parameters).code
    }

    /// What a session's policy has come to.
    pub(crate) fn policy_digest(&self, handle: u32) -> Option<Vec<u8>> {
        let answer = self.policy(&Session::of_others(handle), cc::POLICY_GET_DIGEST, &[]);
        (answer.code == 0).then(|| Reader(&answer.body).sized().to_vec())
    }
}
