//! Ranges of one file that are being fetched: each byte once, however many readers want it.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rangemap::RangeSet;
use tokio::sync::watch;

/// What is under way, in no order. Short: requests are long, and their memory is bounded.
#[derive(Default)]
pub struct Flights {
    under_way: Mutex<Vec<Flight>>,
}

struct Flight {
    range: Range<u64>,
    stage: watch::Receiver<Stage>,
}

/// How far a fetch is; one that has ended, well or not, has no sender any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    UnderWay,
    /// All of it can be read, and is being stored.
    Arrived,
}

/// The right to fetch a range, until this is dropped.
pub struct Claim {
    flights: Arc<Flights>,
    /// What nobody else fetches.
    pub range: Range<u64>,
    stage: watch::Sender<Stage>,
}

/// A fetch, for those who wait for it.
pub struct Landing(watch::Receiver<Stage>);

impl Flights {
    /// Claims those parts of the ranges that nobody fetches; the others are to be waited for.
    pub fn claim(self: &Arc<Self>, wanted: &[Range<u64>]) -> (Vec<Claim>, Vec<Landing>) {
        let mut under_way = self.under_way.lock();
        let taken: RangeSet<u64> = under_way.iter().map(|f| f.range.clone()).collect();
        let touches = |flight: &Flight| {
            let touched = |range: &Range<u64>| {
                range.start < flight.range.end && flight.range.start < range.end
            };
            wanted.iter().any(touched)
        };
        let landings = under_way.iter().filter(|flight| touches(flight));
        let landings = landings.map(|f| Landing(f.stage.clone())).collect();
        let mut claims = Vec::new();
        for range in wanted.iter().flat_map(|range| taken.gaps(range)) {
            let (sender, stage) = watch::channel(Stage::UnderWay);
            under_way.push(Flight {
                range: range.clone(),
                stage,
            });
            claims.push(Claim {
                flights: Arc::clone(self),
                range,
                stage: sender,
            });
        }
        (claims, landings)
    }

    /// Until what has arrived by now is stored, or can't be.
    pub async fn stored(&self) {
        let arrived: Vec<Landing> = {
            let under_way = self.under_way.lock();
            let arrived = under_way
                .iter()
                .filter(|flight| *flight.stage.borrow() == Stage::Arrived);
            arrived.map(|f| Landing(f.stage.clone())).collect()
        };
        for mut landing in arrived {
            landing.end().await;
        }
    }
}

impl Claim {
    /// All of it can be read.
    pub fn arrived(&self) {
        self.stage.send_replace(Stage::Arrived);
    }

    /// Whether all of it could be read.
    pub fn has_arrived(&self) -> bool {
        *self.stage.borrow() == Stage::Arrived
    }

    /// For whoever waits for it.
    pub fn landing(&self) -> Landing {
        Landing(self.stage.subscribe())
    }
}

impl Landing {
    /// Until all of it can be read, or the fetch has ended, well or not.
    pub async fn arrival(&mut self) {
        // An error says that the sender is gone.
        let _ = self.0.wait_for(|stage| *stage == Stage::Arrived).await;
    }

    /// Until the fetch has ended, well or not.
    pub async fn end(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Claim {
    /// The list first: who waits must not find it again.
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock();
        under_way.retain(|flight| flight.range != self.range);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn each_byte_is_claimed_once_and_who_waits_is_told_of_the_end() {
        let flights = Arc::<Flights>::default();
        let (first, landings) = flights.claim(&[10..20, 30..40]);
        assert_eq!((first.len(), landings.len()), (2, 0));
        let (second, landings) = flights.claim(std::slice::from_ref(&(0..35)));
        let ranges: Vec<_> = second.iter().map(|claim| claim.range.clone()).collect();
        assert_eq!(ranges, [0..10, 20..30]);
        assert_eq!(landings.len(), 2);
        let waiting = async {
            for mut landing in landings {
                landing.end().await;
            }
        };
        let ended = timeout(LIMIT, waiting);
        let (waited, ()) = tokio::join!(ended, async { drop(first) });
        assert!(waited.is_ok());
        let (third, landings) = flights.claim(&[12..18, 5..6]);
        assert_eq!((third.len(), landings.len()), (1, 1));
    }

    #[tokio::test]
    async fn who_reads_is_told_of_the_arrival_and_whose_end_comes_first_too() {
        let flights = Arc::<Flights>::default();
        let (mut claims, _) = flights.claim(&[10..20, 30..40]);
        let (_gap, mut landings) = flights.claim(std::slice::from_ref(&(10..40)));
        claims[0].arrived();
        assert!(timeout(LIMIT, landings[0].arrival()).await.is_ok());
        assert!(timeout(Duration::ZERO, landings[0].end()).await.is_err());
        assert!(
            timeout(Duration::ZERO, landings[1].arrival())
                .await
                .is_err()
        );
        assert!(timeout(Duration::ZERO, flights.stored()).await.is_err());
        drop(claims.remove(0));
        assert!(timeout(LIMIT, flights.stored()).await.is_ok());
        drop(claims);
        assert!(timeout(LIMIT, landings[0].end()).await.is_ok());
        assert!(timeout(LIMIT, landings[1].arrival()).await.is_ok());
    }
}
