//! temp
#![allow(clippy::unwrap_used, clippy::print_stderr)]
mod support;
#[test]
fn speed() {
    let dir = std::env::var("SPEED_DIR").unwrap();
    let url = remote::StoreUrl::parse(&format!("file://{dir}")).unwrap();
    let r = remote::Remote::open(&url, &remote::Settings::default()).unwrap();
    support::run(async {
        let body = bytes::Bytes::from(vec![7u8; 32 << 20]);
        let k = remote::ObjectKey::from("big");
        let t = std::time::Instant::now();
        let id = r.multipart(&k, &Default::default()).await.unwrap();
        let mut parts = vec![];
        use futures::StreamExt;
        let mut s = futures::stream::iter(1..=64u32).map(|n| { let (r,k,id,body)=(r.clone(),k.clone(),id.clone(),body.clone()); async move { (n, r.put_part(&k,&id,n,body).await.unwrap()) } }).buffered(4);
        while let Some(p) = s.next().await { parts.push(p); }
        r.complete(&k,&id,&parts,&remote::Condition::None).await.unwrap();
        eprintln!("2 GiB in {:?}", t.elapsed());
        let t = std::time::Instant::now();
        for n in 0..100 { r.put(&remote::ObjectKey::from(format!("s/{n}").as_str()), bytes::Bytes::from_static(b"x"), &Default::default(), &remote::Condition::None).await.unwrap(); }
        eprintln!("100 small puts in {:?}", t.elapsed());
    });
}
