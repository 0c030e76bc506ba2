//! Read an enclave as SGXS and its SIGSTRUCT, and print what they say: a name and a value in each line.
//!
//! usage: independent STREAM SIGSTRUCT

use std::collections::BTreeMap;
use std::fs::{read, File};
use std::io::BufReader;

use openssl::bn::BigNum;
use openssl::hash::Hasher;
use openssl::rsa::Rsa;
use sgx_isa::Sigstruct;
use sgxs::crypto::SgxRsaPubOps;
use sgxs::sgxs::{CanonicalSgxsReader, PageReader};
use sgxs::sigstruct::{verify, EnclaveHash};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stream(path: &str) {
    let mut file = BufReader::new(File::open(path).unwrap());
    let mut canonical = CanonicalSgxsReader::new(&mut file);
    let hash = EnclaveHash::from_stream::<_, Hasher>(&mut canonical).unwrap();
    println!("stream_hash {}", hex(&hash.hash()));

    let mut file = BufReader::new(File::open(path).unwrap());
    let (info, mut pages) = PageReader::new(&mut file).unwrap();
    let (size, frame) = (info.ecreate.size, info.ecreate.ssaframesize);
    println!("size {size}");
    println!("ssa_frame_size {frame}");
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    while let Some((add, chunks, _)) = pages.read_page().unwrap() {
        let flags = add.secinfo.flags;
        let kind = format!("{:?} {:#x} {chunks}", flags.page_type(), flags.bits());
        *kinds.entry(kind).or_default() += 1;
    }
    println!("pages {}", kinds.values().sum::<u64>());
    println!("kinds {kinds:?}");
}

fn sigstruct(path: &str) {
    let data = read(path).unwrap();
    let given = Sigstruct::try_copy_from(&data).unwrap();
    let big_endian: Vec<u8> = given.modulus.iter().rev().copied().collect();
    let (n, e) = (BigNum::from_slice(&big_endian).unwrap(), BigNum::from_u32(given.exponent).unwrap());
    let key = Rsa::from_public_components(n, e).unwrap();
    verify::<_, Hasher>(&given, &*key).unwrap();
    let big_endian: Vec<u8> = given.signature.iter().rev().copied().collect();
    let (mut q1, mut q2) = key.calculate_q1_q2(&big_endian).unwrap();
    q1.resize(384, 0);
    q2.resize(384, 0);
    assert!(q1 == given.q1 && q2 == given.q2);
    println!("signature valid");
    println!("date {:08x}", given.date);
    println!("mrenclave {}", hex(&given.enclavehash));
    println!("product_id {}", given.isvprodid);
    println!("security_version {}", given.isvsvn);
    println!("attributes {:#x}", given.attributes.flags.bits());
    println!("attributes_mask {:#x}", given.attributemask[0]);
    println!("xfrm {:#x}", given.attributes.xfrm);
    println!("xfrm_mask {:#x}", given.attributemask[1]);
    println!("miscselect {:#x}", given.miscselect.bits());
    println!("miscmask {:#x}", given.miscmask);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    stream(&arguments[1]);
    sigstruct(&arguments[2]);
}
