//! Ranges of one file that are being fetched: each byte once, however many readers want it.

use std::ops::Range;

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
    /// Closed when it has ended, well or not.
    landed: watch::Receiver<()>,
}

/// The right to fetch a range, until this is dropped.
pub struct Claim<'flights> {
    flights: &'flights Flights,
    /// What nobody else fetches.
    pub range: Range<u64>,
    _landing: watch::Sender<()>,
}

/// Somebody else's fetch.
pub struct Landing(watch::Receiver<()>);

impl Flights {
    /// Claims those parts of the ranges that nobody fetches; the others are to be waited for.
    pub fn claim(&self, wanted: &[Range<u64>]) -> (Vec<Claim<'_>>, Vec<Landing>) {
        let mut under_way = self.under_way.lock();
        let taken: RangeSet<u64> = under_way.iter().map(|f| f.range.clone()).collect();
        let touches = |flight: &Flight| {
            let touched = |range: &Range<u64>| {
                range.start < flight.range.end && flight.range.start < range.end
            };
            wanted.iter().any(touched)
        };
        let landings = under_way.iter().filter(|flight| touches(flight));
        let landings = landings.map(|f| Landing(f.landed.clone())).collect();
        let mut claims = Vec::new();
        for range in wanted.iter().flat_map(|range| taken.gaps(range)) {
            let (landing, landed) = watch::channel(());
            under_way.push(Flight {
                range: range.clone(),
                landed,
            });
            claims.push(Claim {
                flights: self,
                range,
                _landing: landing,
            });
        }
        (claims, landings)
    }
}

impl Landing {
    /// Until the other fetch has ended, well or not.
    pub async fn wait(mut self) {
        // The only news there can be is that the sender is gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Claim<'_> {
    /// The list first: who waits must not find it again.
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock();
        under_way.retain(|flight| flight.range != self.range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_byte_is_claimed_once_and_who_waits_is_told_of_the_end() {
        let flights = Flights::default();
        let (first, landings) = flights.claim(&[10..20, 30..40]);
        assert_eq!((first.len(), landings.len()), (2, 0));
        let (second, landings) = flights.claim(std::slice::from_ref(&(0..35)));
        let ranges: Vec<_> = second.iter().map(|claim| claim.range.clone()).collect();
        assert_eq!(ranges, [0..10, 20..30]);
        assert_eq!(landings.len(), 2);
        let waiting = async {
            for landing in landings {
                landing.wait().await;
            }
        };
        let ended = tokio::time::timeout(std::time::Duration::from_secs(60), waiting);
        let (waited, ()) = tokio::join!(ended, async { drop(first) });
        assert!(waited.is_ok());
        let (third, landings) = flights.claim(&[12..18, 5..6]);
        assert_eq!((third.len(), landings.len()), (1, 1));
    }
}
