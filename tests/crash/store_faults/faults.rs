//! Which fault happens to which request.

use std::time::{Duration, Instant};

use harness::{Fault, Proxy};
use nix::libc;

use crate::content::Dice;

/// What goes wrong in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 500 and 503 SlowDown.
    Refusals,
    /// Up to 2 s late.
    Delays,
    /// Never answered.
    Silence,
    /// Connections break in the middle of a request or an answer.
    Cuts,
    /// Bodies end early.
    ShortAnswers,
    /// Answers name other versions.
    WrongEtags,
    /// The server did it, and nobody hears of it.
    LostAnswers,
    /// 403 ExpiredToken for everything, for a while.
    Expired,
    /// Nothing at all, for a while.
    Outages,
    /// Everything above.
    All,
}

impl Kind {
    /// Whether a read may have to wait for the end of the faults.
    pub fn makes_reads_wait(self) -> bool {
        matches!(self, Self::Silence | Self::All)
    }

    /// Whether a read may fail so.
    pub fn allows(self, errno: i32) -> bool {
        let denied = matches!(self, Self::Expired | Self::All) && errno == libc::EACCES;
        let stale = matches!(self, Self::WrongEtags | Self::All) && errno == libc::ESTALE;
        matches!(errno, libc::EIO | libc::ETIMEDOUT) || denied || stale
    }

    /// What comes and goes for everybody at once.
    fn spells(self) -> &'static [Spell] {
        match self {
            Self::Expired => &[Spell::Expired],
            Self::Outages => &[Spell::Away],
            Self::All => &[Spell::Expired, Spell::Away],
            _ => &[],
        }
    }

    /// What may happen to one request.
    fn fault(self, dice: &mut Dice) -> Option<Fault> {
        let late = Duration::from_millis(dice.below(2000) as u64);
        let (percent, faults): (usize, &[Fault]) = match self {
            Self::Refusals => (
                35,
                &[
                    Fault::Refuse(500, "InternalError"),
                    Fault::Refuse(503, "SlowDown"),
                ],
            ),
            Self::Delays => (25, &[Fault::Delay(late)]),
            Self::Silence => (4, &[Fault::Silence]),
            Self::Cuts => (30, &[Fault::CutRequest, Fault::CutAnswer]),
            Self::ShortAnswers => (30, &[Fault::ShortAnswer]),
            Self::WrongEtags => (25, &[Fault::WrongEtag]),
            Self::LostAnswers => (40, &[Fault::LoseAnswer]),
            Self::Expired | Self::Outages => (0, &[]),
            Self::All => (
                25,
                &[
                    Fault::Refuse(500, "InternalError"),
                    Fault::Refuse(503, "SlowDown"),
                    Fault::Delay(late),
                    Fault::CutRequest,
                    Fault::CutAnswer,
                    Fault::ShortAnswer,
                    Fault::WrongEtag,
                    Fault::LoseAnswer,
                    Fault::LoseAnswer,
                ],
            ),
        };
        if self == Self::All && dice.chance(1) {
            return Some(Fault::Silence);
        }
        match dice.chance(percent) {
            true => dice.pick(faults).copied(),
            false => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Spell {
    Expired,
    Away,
}

/// The weather at the proxy while a round works.
#[derive(Debug)]
pub struct Weather {
    kind: Kind,
    dice: Dice,
    /// How long a spell lasts, and the pause after it.
    spell: Duration,
    spells: usize,
    bad: bool,
    turns: Instant,
}

impl Weather {
    /// Nothing is wrong yet.
    pub fn new(kind: Kind, seed: u64, spell: Duration) -> Self {
        Self {
            kind,
            dice: Dice::new(seed ^ 0xfa_17),
            spell,
            spells: 0,
            bad: false,
            turns: Instant::now(),
        }
    }

    /// The faults begin.
    pub fn begin(&mut self, proxy: &Proxy) {
        self.bad = false;
        self.turns = Instant::now() + self.spell / 2;
        self.arm(proxy, None);
    }

    /// To be called again and again: spells come and go.
    pub fn pass(&mut self, proxy: &Proxy) {
        if Instant::now() < self.turns {
            return;
        }
        self.turns = Instant::now() + self.spell;
        self.bad = !self.bad;
        // Also what was never answered breaks off.
        proxy.mend();
        let spells = self.kind.spells();
        let spell = match self.bad {
            true => spells.get(self.spells % spells.len().max(1)).copied(),
            false => None,
        };
        self.spells += usize::from(self.bad);
        self.arm(proxy, spell);
    }

    fn arm(&mut self, proxy: &Proxy, spell: Option<Spell>) {
        let (kind, mut dice) = (self.kind, Dice::new(self.dice.next()));
        match spell {
            Some(Spell::Away) => proxy.cut(),
            Some(Spell::Expired) => proxy.judge(|_| Some(Fault::Refuse(403, "ExpiredToken"))),
            None => proxy.judge(move |_| kind.fault(&mut dice)),
        }
    }
}
