//! Modes and extended attributes are set.

use fused::vfs::{Caller, SetAttributes, Vfs};
use journal::XattrMode;

use super::walk::find;
use super::{Program, XATTR};
use crate::tree::Kind;

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

impl Program {
    pub(super) async fn chmod(&self, vfs: &Vfs) {
        let paths: Vec<String> = self.tree().names.into_keys().collect();
        let Some(path) = self.dice(|dice| dice.pick(&paths).cloned()) else {
            return;
        };
        let mut next = self.tree();
        let node = next.names[&path];
        if matches!(
            next.thing(node).map(|thing| &thing.kind),
            Some(Kind::Symlink(_)) | None
        ) {
            return;
        }
        let mode = self.dice(|dice| *dice.pick(&[0o600, 0o640, 0o750]).unwrap_or(&0o600));
        next.change(node, |thing| thing.mode = mode);
        let set = SetAttributes {
            mode: Some(mode),
            ..SetAttributes::default()
        };
        self.call(|| format!("chmod {path} {mode:o}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.set_attributes(ino, set, ROOT).await
        })
        .await;
    }

    pub(super) async fn set_xattr(&self, vfs: &Vfs) {
        let Some((path, node)) = self.some_file() else {
            return;
        };
        let mut next = self.tree();
        let value = self.dice(|dice| vec![dice.next() as u8; dice.below(20) as usize]);
        next.change(node, |thing| thing.xattr = Some(value.clone()));
        self.call(|| format!("setxattr {path}"), next, async {
            let ino = find(vfs, &path).await?.ino;
            vfs.set_xattr(ino, XATTR, &value, XattrMode::Any, ROOT)
                .await
        })
        .await;
    }
}
