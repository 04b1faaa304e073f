//! Reads what callgrind writes: <https://valgrind.org/docs/manual/cl-format.html>.

use std::collections::{BTreeMap, HashMap};

use super::stages::Stage;
use crate::failure::Failure;

/// Holds the instructions of a whole run by stage.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Profile(BTreeMap<Stage, i64>);

impl Profile {
    /// Adds up the self cost of each function under the stage that its name and object tell.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut parser = Parser::default();
        let mut profile = Self::default();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                parser.define(key, value);
            } else if let Some((_, cost)) = line
                .split_once(' ')
                .filter(|_| line.starts_with(|first: char| "0123456789+-*".contains(first)))
            {
                // The line after `calls=` has the inclusive cost of the function that is called.
                if !std::mem::take(&mut parser.in_call) {
                    let cost: i64 = cost.parse()?;
                    *profile.0.entry(parser.stage).or_default() += cost;
                }
            }
        }
        match profile.0.is_empty() {
            false => Ok(profile),
            true => Err(Failure("callgrind has counted nothing".to_owned())),
        }
    }

    pub(crate) fn instructions_of(&self, stage: Stage) -> i64 {
        self.0.get(&stage).copied().unwrap_or_default()
    }
}

/// Resolves names, which are written once, as `(number) name`, and from then on as the number only.
#[derive(Default)]
struct Parser<'a> {
    functions: HashMap<&'a str, &'a str>,
    objects: HashMap<&'a str, &'a str>,
    object: &'a str,
    stage: Stage,
    in_call: bool,
}

impl<'a> Parser<'a> {
    fn define(&mut self, key: &str, value: &'a str) {
        match key {
            "ob" => self.object = name(&mut self.objects, value),
            "cob" => drop(name(&mut self.objects, value)),
            "fn" => self.stage = Stage::of(name(&mut self.functions, value), self.object),
            "cfn" => drop(name(&mut self.functions, value)),
            "calls" => self.in_call = true,
            _ => {}
        }
    }
}

fn name<'a>(known: &mut HashMap<&'a str, &'a str>, value: &'a str) -> &'a str {
    match value.split_once(' ') {
        Some((number, name)) => {
            known.insert(number, name);
            name
        }
        None => known.get(value).copied().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_cost_is_added_up_by_stage_and_calls_are_left_out() {
        let profile = Profile::parse(
            "version: 1\nevents: Ir\nob=(1) /opt/guestpass\nfl=(1) ???\nfn=(1) sqlite3_step\n0 10\ncfn=(2) tokio::poll\n\
             calls=3 0\n0 1000\n0 5\n\nfn=(2)\n0 7\n\nfn=(1)\n0 1\n\ntotals: 23\n",
        );
        let expected = BTreeMap::from([(Stage::Store, 16), (Stage::Runtime, 7)]);
        assert_eq!(profile.unwrap(), Profile(expected));
    }
}
