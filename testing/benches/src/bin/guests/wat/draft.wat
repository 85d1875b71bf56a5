  ;; Calls `wasi:keyvalue@0.2.0-draft`. The result of each call is written to 0x100.
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error')))
    (type $response' (record (field "keys" (list string)) (field "cursor" (option u64))))
    (export "key-response" (type $response (eq $response')))
    (export "bucket" (type $bucket (sub resource)))
    (export "open" (func
      (param "identifier" string) (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.get" (func
      (param "self" (borrow $bucket)) (param "key" string)
      (result (result (option (list u8)) (error $error)))))
    (export "[method]bucket.set" (func
      (param "self" (borrow $bucket)) (param "key" string) (param "value" (list u8))
      (result (result (error $error)))))
    (export "[method]bucket.exists" (func
      (param "self" (borrow $bucket)) (param "key" string) (result (result bool (error $error)))))
    (export "[method]bucket.list-keys" (func
      (param "self" (borrow $bucket)) (param "cursor" (option u64))
      (result (result $response (error $error)))))
  ))
  (alias export $store "bucket" (type $bucket))
  (alias export $store "error" (type $error))
  (import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
    (alias outer 1 $bucket (type $bucket))
    (alias outer 1 $error (type $error))
    (export "increment" (func
      (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" u64)
      (result (result u64 (error $error)))))
  ))
  (import "wasi:keyvalue/batch@0.2.0-draft" (instance $batch
    (alias outer 1 $bucket (type $bucket))
    (alias outer 1 $error (type $error))
    (export "get-many" (func
      (param "bucket" (borrow $bucket)) (param "keys" (list string))
      (result (result (list (option (tuple string (list u8)))) (error $error)))))
  ))
  (core func $open
    (canon lower (func $store "open") (memory $mem) (realloc $realloc)))
  (core func $get
    (canon lower (func $store "[method]bucket.get") (memory $mem) (realloc $realloc)))
  (core func $exists
    (canon lower (func $store "[method]bucket.exists") (memory $mem) (realloc $realloc)))
  (core func $set
    (canon lower (func $store "[method]bucket.set") (memory $mem) (realloc $realloc)))
  (core func $list-keys
    (canon lower (func $store "[method]bucket.list-keys") (memory $mem) (realloc $realloc)))
  (core func $increment
    (canon lower (func $atomics "increment") (memory $mem) (realloc $realloc)))
  (core func $get-many
    (canon lower (func $batch "get-many") (memory $mem) (realloc $realloc)))
  (core module $main
    (import "host" "open" (func $host-open (param i32 i32 i32)))
    (import "host" "get" (func $host-get (param i32 i32 i32 i32)))
    (import "host" "exists" (func $host-exists (param i32 i32 i32 i32)))
    (import "host" "set" (func $host-set (param i32 i32 i32 i32 i32 i32)))
    (import "host" "list-keys" (func $host-list-keys (param i32 i32 i64 i32)))
    (import "host" "increment" (func $host-increment (param i32 i32 i32 i64 i32)))
    (import "host" "get-many" (func $host-get-many (param i32 i32 i32 i32)))
    (import "memory" "memory" (memory 64))
    (import "memory" "heap" (global $heap (mut i32)))
    (global $bucket (mut i32) (i32.const 0))

    ;; The address of the key of a call: the first 16 keys are used in turn.
    (func $key (param $i i32) (result i32)
      (i32.add (i32.const 0x1000) (i32.shl (i32.and (local.get $i) (i32.const 15)) (i32.const 4))))

    ;; Stores the keys: those in use with values of this size, the others with 100 bytes.
    (func $prepare (param $times i32) (param $bytes i32) (result i64)
      (local $i i32)
      (if (i32.eqz (global.get $bucket))
        (then
          (call $host-open (i32.const 0) (i32.const 0) (i32.const 0x100))
          (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
          (global.set $bucket (i32.load (i32.const 0x104)))))
      ;; The keys of a batch, at 0x3000.
      (loop $next
        (i32.store (i32.add (i32.const 0x3000) (i32.shl (local.get $i) (i32.const 3)))
          (i32.add (i32.const 0x1000) (i32.shl (local.get $i) (i32.const 4))))
        (i32.store (i32.add (i32.const 0x3004) (i32.shl (local.get $i) (i32.const 3)))
          (i32.const 16))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 10))))
      (local.set $i (i32.const 0))
      (loop $next
        (call $host-set (global.get $bucket)
          (i32.add (i32.const 0x1000) (i32.shl (local.get $i) (i32.const 4)))
          (i32.const 16) (i32.const 0x10000)
          (select (local.get $bytes) (i32.const 100) (i32.lt_u (local.get $i) (i32.const 16)))
          (i32.const 0x100))
        (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 99))))
      (call $host-set (global.get $bucket) (i32.const 0x2000) (i32.const 16)
        (i32.const 0x2010) (i32.const 1) (i32.const 0x100))
      (select (i64.const -1) (i64.const 0) (i32.load8_u (i32.const 0x100))))

    (func $get (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-get (global.get $bucket) (call $key (local.get $i))
              (i32.const 16) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum)
              (i64.mul (i64.load8_u (i32.const 0x104)) (i64.load32_u (i32.const 0x10c)))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    (func $exists (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-exists (global.get $bucket) (call $key (local.get $i))
              (i32.const 16) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u (i32.const 0x104))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    (func $set (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-set (global.get $bucket) (call $key (local.get $i))
              (i32.const 16) (i32.const 0x10000) (local.get $bytes) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    (func $increment (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-increment (global.get $bucket) (i32.const 0x2000) (i32.const 16)
              (i64.const 1) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    (func $get-many (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-get-many (global.get $bucket) (i32.const 0x3000) (i32.const 10)
              (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (call $bytes-at (i32.load (i32.const 0x104)))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    ;; The bytes of the ten values of a batch; 20 bytes each, the length at the end.
    (func $bytes-at (param $at i32) (result i64)
      (local $end i32) (local $sum i64)
      (local.set $end (i32.add (local.get $at) (i32.const 200)))
      (loop $next
        (local.set $sum
          (i64.add (local.get $sum) (i64.load32_u offset=16 (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 20)))
        (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
      (local.get $sum))

    (func $list-keys (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-list-keys (global.get $bucket) (i32.const 0) (i64.const 0)
              (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.load32_u (i32.const 0x10c))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    ;; In the order of the operations.
    (func $none (param i32 i32) (result i64) (i64.const -1))
    (type $calls (func (param i32 i32) (result i64)))
    (table 7 7 funcref)
    (elem (i32.const 0) $prepare $get $exists $set $increment $get-many $list-keys)
    (func (export "run")
      (param $dialect i32) (param $operation i32) (param $times i32) (param $bytes i32)
      (result i64)
      (call_indirect (type $calls)
        (local.get $times) (local.get $bytes) (local.get $operation))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "open" (func $open))
      (export "get" (func $get))
      (export "exists" (func $exists))
      (export "set" (func $set))
      (export "list-keys" (func $list-keys))
      (export "increment" (func $increment))
      (export "get-many" (func $get-many))))))
  (func (export "run")
    (param "dialect" $dialect) (param "operation" $operation)
    (param "times" u32) (param "bytes" u32) (result u64)
    (canon lift (core func $main "run")))
