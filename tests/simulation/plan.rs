//! What kind of world a seed makes: its weather, its store, how the mount is set up, and how often it dies.

use crate::dice::Dice;
use crate::kv;
use crate::world::Weather;

/// What happens in a world besides deaths, and a store that refuses and is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Plain,
    /// Requests arrive when nobody waits for them any more.
    Late,
    /// The power goes.
    PowerCuts,
}

/// Drawn once, at the beginning.
#[derive(Clone, Debug)]
pub struct Plan {
    pub journal: kv::Kind,
    /// What was given up, or sent by a daemon that died, may arrive later.
    pub late: bool,
    /// Most deaths are power cuts.
    pub cuts: bool,
    /// They take bytes that nobody synced, not only the end of the journal.
    pub tears: bool,
    pub programs: usize,
    /// Lives of the daemon, the last of which ends in peace.
    pub lives: usize,
    /// Steps of each program in each life.
    pub steps: u64,
    pub weather: Weather,
    /// The store copies objects by itself.
    pub copies: bool,
    /// What the cache may hold, if that is little.
    pub cache_bytes: Option<u64>,
    pub passthrough: bool,
    pub settle_ms: u64,
    pub revalidate_s: u64,
    pub strict: bool,
    /// Files that the flusher looks at together.
    pub work_items: usize,
}

impl Plan {
    pub fn draw(dice: &mut Dice, sort: Sort) -> Self {
        let late = match sort {
            Sort::Plain => false,
            Sort::Late => true,
            Sort::PowerCuts => dice.chance(300),
        };
        let level = dice.below(4);
        let mut rate = |most: u64| match level {
            0 => 0,
            level => dice.below(1 + most * level / 3),
        };
        let weather = Weather {
            refused: rate(60),
            unheard: rate(60),
            late: rate(40) * u64::from(late),
            silent: rate(300),
            short: rate(60),
            outage: rate(8),
            slow: 0,
        };
        Self {
            weather: Weather {
                slow: dice.below(300),
                ..weather
            },
            late,
            cuts: sort == Sort::PowerCuts,
            tears: sort == Sort::PowerCuts && dice.chance(700),
            journal: match dice.chance(650) {
                true => kv::Kind::Embedded,
                false => kv::Kind::Distributed,
            },
            programs: 1 + dice.below(3) as usize,
            lives: 1 + dice.below(4) as usize,
            steps: 3 + dice.below(25),
            copies: dice.chance(800),
            cache_bytes: dice.chance(300).then(|| 300_000 + dice.below(1_000_000)),
            passthrough: dice.chance(700),
            settle_ms: dice.any_magnitude(3000),
            revalidate_s: dice.any_magnitude(120),
            strict: dice.chance(200),
            work_items: match dice.chance(500) {
                true => 1 + dice.below(8) as usize,
                false => 8192,
            },
        }
    }
}
