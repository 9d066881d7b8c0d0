#[derive(Debug)]
pub(crate) struct Hdfs;
#[async_trait::async_trait]
impl crate::backend::Backend for Hdfs {
    fn capabilities(&self) -> crate::types::Capabilities { unimplemented!() }
    fn endpoint(&self) -> String { unimplemented!() }
    async fn check(&self) -> Result<(), crate::ProbeError> { unimplemented!() }
    async fn head(&self, _: &crate::ObjectKey) -> crate::Result<Option<crate::ObjectMeta>> { unimplemented!() }
    async fn list_page(&self, _: &crate::ObjectKey, _: Option<&crate::ListToken>, _: usize) -> crate::Result<crate::ListPage> { unimplemented!() }
    async fn exists_below(&self, _: &crate::ObjectKey) -> crate::Result<bool> { unimplemented!() }
    async fn get(&self, _: &crate::ObjectKey, _: std::ops::Range<u64>, _: Option<&crate::ETag>) -> crate::Result<bytes::Bytes> { unimplemented!() }
    async fn put(&self, _: &crate::ObjectKey, _: bytes::Bytes, _: &crate::PosixAttrs, _: &crate::Condition) -> crate::Result<crate::Put> { unimplemented!() }
    async fn multipart(&self, _: &crate::ObjectKey, _: &crate::PosixAttrs) -> crate::Result<crate::UploadId> { unimplemented!() }
    async fn put_part(&self, _: &crate::ObjectKey, _: &crate::UploadId, _: u32, _: bytes::Bytes) -> crate::Result<crate::PartTag> { unimplemented!() }
    async fn complete(&self, _: &crate::ObjectKey, _: &crate::UploadId, _: &[(u32, crate::PartTag)], _: &crate::Condition) -> crate::Result<crate::Put> { unimplemented!() }
    async fn abort(&self, _: &crate::ObjectKey, _: &crate::UploadId) -> crate::Result<()> { unimplemented!() }
    async fn set_attributes(&self, _: &crate::ObjectKey, _: Option<&crate::ETag>, _: &crate::PosixAttrs) -> crate::Result<crate::Put> { unimplemented!() }
    async fn copy(&self, _: &crate::ObjectKey, _: &crate::ObjectKey, _: &crate::PosixAttrs, _: Option<&crate::ETag>) -> crate::Result<crate::Put> { unimplemented!() }
    async fn delete(&self, _: &crate::ObjectKey, _: Option<&crate::ETag>) -> crate::Result<()> { unimplemented!() }
    async fn make_dir(&self, _: &crate::ObjectKey, _: &crate::PosixAttrs) -> crate::Result<()> { unimplemented!() }
    async fn remove_dir(&self, _: &crate::ObjectKey) -> crate::Result<()> { unimplemented!() }
}
impl Hdfs { pub(crate) fn open(_: &crate::StoreUrl) -> crate::Result<Hdfs> { Ok(Hdfs) } }
