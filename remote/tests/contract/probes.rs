//! What is found out about a store before it is used, and what that leaves in it.

use std::sync::Mutex;

use remote::{Access, Condition, DirMarkers, ListPage, PosixAttrs, ProbeNotes, Scheme};

use crate::support::Store;
use crate::support::objects::{key, text};

pub(crate) async fn the_probe_finds_out_what_the_store_can_do(store: Store) {
    let can = store.remote.probe(Access::ReadWrite).await.unwrap();
    assert!(can.multipart && can.copy && can.attributes, "{can:?}");
    // HDFS checks nothing but that nothing is there.
    let conditions = store.url.scheme() != Scheme::Hdfs;
    assert_eq!(
        (can.conditional_put, can.conditional_copy),
        (conditions, conditions),
        "{can:?}"
    );
    if store.strict {
        assert!(
            can.conditional_complete && can.conditional_delete,
            "{can:?}"
        );
    }
    assert!(matches!(
        can.markers,
        DirMarkers::Object | DirMarkers::Native
    ));
    let page = store.remote.list_page(&key(""), None, 100).await.unwrap();
    assert_eq!(
        page,
        ListPage::default(),
        "the probe leaves nothing behind that is seen"
    );
    store.remote.probe(Access::ReadOnly).await.unwrap();
}

/// Of one that was killed. Another mount may be trying the same store at this instant: its objects stay.
pub(crate) async fn a_probe_removes_what_an_earlier_one_has_left(store: Store) {
    #[derive(Default)]
    struct Notes(Mutex<(Vec<u64>, Vec<u64>)>);
    impl ProbeNotes for Notes {
        fn left(&self) -> Vec<u64> {
            vec![0xab]
        }
        fn begins(&self, probe: u64) {
            self.0.lock().unwrap().0.push(probe);
        }
        fn is_gone(&self, probe: u64) {
            self.0.lock().unwrap().1.push(probe);
        }
    }
    let (left, others) = (
        key(".fused-probe-00000000000000ab-put"),
        key(".fused-probe-00000000000000cd-put"),
    );
    for key in [&left, &others] {
        let attrs = PosixAttrs::default();
        let put = store.remote.put(key, text("1"), &attrs, &Condition::None);
        put.await.unwrap();
    }
    let notes = Notes::default();
    let access = Access::ReadWrite;
    store.remote.probe_noted(access, &notes).await.unwrap();
    assert!(store.remote.head(&left).await.unwrap().is_none());
    assert!(store.remote.head(&others).await.unwrap().is_some());
    let (begun, gone) = notes.0.into_inner().unwrap();
    assert_eq!(gone, [begun[0], 0xab]);
    assert_eq!(begun.len(), 1);
}
