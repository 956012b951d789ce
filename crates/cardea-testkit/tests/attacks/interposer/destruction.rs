//! Cards being destroyed.

use cardea_card::record::CardRecord;

use super::adversary::Conversation;
use super::creation::exists;
use super::world::{Ending, Report, World};
use super::{Operation, gains, show};
use crate::bench::Kind;

struct Destruction;

impl Operation for Destruction {
    type Stage = CardRecord;
    type Rest = CardRecord;

    fn row(&self) -> &'static str {
        "destruction"
    }

    fn stride(&self) -> usize {
        1
    }

    fn share(&self) -> usize {
        2
    }

    fn world(&self) -> World {
        World::new(Kind::Plain, &[])
    }

    fn prepare(&self, world: &mut World) -> CardRecord {
        let record = world.bench.numbered(Kind::Puk, 2);
        world.bench.restart();
        record
    }

    fn run(&self, world: &World, stage: &mut CardRecord) -> Report {
        match world.bench.service.destroy_card(&stage.tpm) {
            Ok(()) => Report::Done(Vec::new()),
            Err(error) => Report::failure(&error),
        }
    }

    fn end(&self, stage: CardRecord) -> CardRecord {
        stage
    }

    fn gains(
        &self,
        world: &World,
        rest: &CardRecord,
        _: &Report,
        heard: &Conversation,
    ) -> Vec<String> {
        gains(world, rest, heard)
    }

    fn settle(
        &self,
        world: &mut World,
        rest: CardRecord,
        report: &Report,
        _: &Conversation,
    ) -> Result<Ending, String> {
        let bench = &world.bench;
        let remains = || {
            let mut indices = rest.tpm.indices.iter();
            indices.any(|index| exists(bench, index.handle))
        };
        let remained = remains();
        let again = bench.service.destroy_card(&rest.tpm);
        again.map_err(|error| format!("the card cannot be destroyed: {error}"))?;
        if remains() {
            return Err("an index of a destroyed card remains".into());
        }
        // Neither the response that an index is undefined nor the one that it does not exist has an HMAC. What
        // protects the card's keys remains with them.
        if report.is_done() && remained {
            return Ok(Ending::Misreported);
        }
        Ok(report.ending())
    }
}

#[test]
fn destruction() {
    show(&Destruction);
}
