//! The agents: programs in people's sessions that ask for PINs. An agent is asked for the cards of its own user
//! only, the last one to register first.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardea_client::message::SecretBytes;

use super::Bus;
use super::clients::Client;
use super::error::{BusError, Name};
use super::link::{CallError, Dictionary, Link, Target, entry, value};
use super::names::{AGENT, SERVICE};
use super::objects::{card_path, policy};
use super::secret;
use cardea_host::CONSENT_TIME;
use cardea_host::HostedCard;
use cardea_host::lock;
use cardea_host::{Actor, Door};
use cardea_host::{ConsentRequest, NoAnswer, Prompter, Question, plausible};

/// Agents of one user.
const MAX_AGENTS: usize = 4;

/// Answers that cannot be right, after which an agent is not asked again.
const ROUNDS: u32 = 3;

/// How much longer than the person an agent may take.
const GRACE: Duration = Duration::from_secs(5);

/// A program that asks people.
#[derive(Clone, Debug)]
struct Agent {
    client: Arc<Client>,
    path: String,
}

/// All agents, in order of registration.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<Vec<Agent>>);

impl Agents {
    pub(crate) fn register(&self, client: &Arc<Client>, path: String) -> Result<(), BusError> {
        let mut agents = lock(&self.0);
        agents.retain(|agent| !(agent.client.name == client.name && agent.path == path));
        let of_user = agents
            .iter()
            .filter(|agent| agent.client.caller.uid() == client.caller.uid());
        if of_user.count() >= MAX_AGENTS {
            return Err(BusError::new(
                Name::LimitReached,
                format!("this user already has {MAX_AGENTS} agents"),
            ));
        }
        tracing::info!(
            uid = client.caller.uid(),
            pid = client.actor.pid,
            "agent registered"
        );
        agents.push(Agent {
            client: Arc::clone(client),
            path,
        });
        Ok(())
    }

    pub(crate) fn unregister(&self, client: &Client, path: &str) -> Result<(), BusError> {
        let mut agents = lock(&self.0);
        let before = agents.len();
        agents.retain(|agent| !(agent.client.name == client.name && agent.path == path));
        if agents.len() == before {
            return Err(BusError::new(Name::NotFound, "no such agent"));
        }
        Ok(())
    }

    /// Those of a connection that left.
    pub(crate) fn left(&self, name: &str) {
        lock(&self.0).retain(|agent| agent.client.name != name);
    }

    pub(crate) fn all_left(&self) {
        lock(&self.0).clear();
    }

    /// Newest first.
    fn of(&self, uid: u32) -> Vec<Agent> {
        let agents = lock(&self.0);
        let of_user = agents.iter().rev();
        of_user
            .filter(|agent| agent.client.caller.uid() == uid)
            .cloned()
            .collect()
    }
}

impl Prompter for Bus {
    fn ask(&self, question: &Question<'_>) -> Result<SecretBytes, NoAnswer> {
        let link = self.link().ok_or(NoAnswer::NoAgent)?;
        for agent in self.agents.of(question.user) {
            match ask(&link, &agent, question) {
                // Another one may do better.
                Err(NoAnswer::NoAgent) => {}
                answer => return answer,
            }
        }
        Err(NoAnswer::NoAgent)
    }

    fn consent(&self, wish: &ConsentRequest<'_>) -> Result<(), NoAnswer> {
        let link = self.link().ok_or(NoAnswer::NoAgent)?;
        for agent in self.agents.of(wish.user) {
            match consent(&link, &agent, wish) {
                Err(NoAnswer::NoAgent) => {}
                answer => return answer,
            }
        }
        Err(NoAnswer::NoAgent)
    }
}

/// Asks one agent for yes or no.
fn consent(link: &Link, agent: &Agent, wish: &ConsentRequest<'_>) -> Result<(), NoAnswer> {
    let target = Target {
        destination: &agent.client.name,
        path: &agent.path,
        interface: AGENT,
        member: "RequestConsent",
    };
    let mut hints: Dictionary = [
        entry("name", wish.card.name()),
        entry("card-id", wish.card.selector()),
        entry(
            "timeout",
            u32::try_from(CONSENT_TIME.as_secs()).unwrap_or(u32::MAX),
        ),
    ]
    .into();
    hints.extend(who(wish.actor, wish.door));
    let path = object_path(Some(wish.card))?;
    let body = (path, wish.action, hints);
    match link.call(target, &body, CONSENT_TIME + GRACE, None) {
        Ok(answer) => match answer.body().deserialize::<bool>() {
            Ok(true) => Ok(()),
            Ok(false) => Err(NoAnswer::Cancelled),
            Err(error) => Err(NoAnswer::Failed(error.to_string())),
        },
        Err(error) => Err(unanswered(link, agent, target, error)),
    }
}

fn object_path(card: Option<&HostedCard>) -> Result<zbus::ObjectPath<'static>, NoAnswer> {
    let path = card.and_then(card_path).unwrap_or_else(|| "/".to_owned());
    zbus::ObjectPath::try_from(path).map_err(|error| NoAnswer::Failed(error.to_string()))
}

/// Asks one agent until its answer can be right.
fn ask(link: &Link, agent: &Agent, question: &Question<'_>) -> Result<SecretBytes, NoAnswer> {
    let mut error = question.error.clone();
    for _ in 0..ROUNDS {
        let answer = ask_once(link, agent, question, error.as_deref())?;
        match plausible(question, &answer) {
            Ok(()) => return Ok(answer),
            Err(why) => error = Some(why),
        }
    }
    Err(NoAnswer::Failed(error.unwrap_or_default()))
}

fn ask_once(
    link: &Link,
    agent: &Agent,
    question: &Question<'_>,
    error: Option<&str>,
) -> Result<SecretBytes, NoAnswer> {
    let target = Target {
        destination: &agent.client.name,
        path: &agent.path,
        interface: AGENT,
        member: "RequestPin",
    };
    let card = object_path(question.card)?;
    let body = (card, question.purpose.word(), hints(question, error));
    let limit = question.limit + GRACE;
    match link.call(target, &body, limit, question.gone.as_deref()) {
        Ok(answer) => {
            let body = answer.body();
            let descriptor: zbus::OwnedFd = body
                .deserialize()
                .map_err(|error| NoAnswer::Failed(error.to_string()))?;
            let descriptor = OwnedFd::from(descriptor);
            secret::take(descriptor).map_err(|error| NoAnswer::Failed(error.text().to_owned()))
        }
        Err(error) => Err(unanswered(link, agent, target, error)),
    }
}

/// Why there is no answer. A dialog that nobody waits for is closed.
fn unanswered(link: &Link, agent: &Agent, target: Target<'_>, error: CallError) -> NoAnswer {
    let cancel = || {
        link.tell(Target {
            member: "Cancel",
            ..target
        })
    };
    match error {
        CallError::TimedOut => {
            cancel();
            NoAnswer::TimedOut
        }
        CallError::Gone => {
            cancel();
            NoAnswer::Cancelled
        }
        CallError::Refused(name, text) => match name.strip_prefix(SERVICE) {
            Some(".Error.Cancelled") => NoAnswer::Cancelled,
            Some(_) => NoAnswer::Failed(text),
            // It left the bus, or never was an agent.
            None => {
                tracing::info!(
                    uid = agent.client.caller.uid(),
                    agent = agent.client.name,
                    name,
                    text,
                    "agent does not answer"
                );
                NoAnswer::NoAgent
            }
        },
        CallError::Bus(error) => NoAnswer::Failed(error.to_string()),
    }
}

/// What the dialog shows.
fn hints(question: &Question<'_>, error: Option<&str>) -> Dictionary {
    let mut hints: Dictionary = [
        entry("name", question.name.as_str()),
        entry("confirm", question.purpose.is_new()),
        entry("unblock-mode", question.unblock.word()),
        entry(
            "timeout",
            u32::try_from(question.limit.as_secs()).unwrap_or(u32::MAX),
        ),
    ]
    .into();
    hints.extend(who(question.actor, question.door));
    hints.insert("policy".to_owned(), value(policy(&question.policy)));
    if let Some(card) = question.card {
        hints.extend([entry("card-id", card.selector())]);
    }
    if let Some(status) = question.status {
        hints.extend([
            entry("tries-left", status.left),
            entry("tries-max", status.limit),
        ]);
    }
    if let Some(error) = error {
        hints.extend([entry("error", error)]);
    }
    hints
}

/// Who asks.
fn who(actor: &Actor, door: Door) -> Dictionary {
    let mut hints: Dictionary = [
        entry("program", actor.program.as_str()),
        entry("pid", actor.pid),
        entry("door", door.word()),
    ]
    .into();
    if !actor.unit.is_empty() {
        hints.extend([entry("unit", actor.unit.as_str())]);
    }
    if actor.started > 0 {
        hints.extend([entry("started", actor.started)]);
    }
    if !actor.on_behalf_of.is_empty() {
        hints.extend([entry("for", actor.on_behalf_of.as_str())]);
    }
    hints
}
