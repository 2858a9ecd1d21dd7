#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| dedump_tests::fuzz::clickhouse_native(data));
