  ;; Calls `airssys:core/storage`. The result of each call is written to 0x100.
  (import "airssys:core/storage@1.0.0" (instance $storage
    (type $error' (variant
      (case "not-found" string)
      (case "already-exists" string)
      (case "quota-exceeded")
      (case "invalid-key" string)
      (case "io-error" string)))
    (export "storage-error" (type $error (eq $error')))
    (export "get" (func
      (param "key" string) (result (result (option (list u8)) (error $error)))))
    (export "set" (func
      (param "key" string) (param "value" (list u8)) (result (result (error $error)))))
    (export "exists" (func (param "key" string) (result (result bool (error $error)))))
    (export "list-keys" (func
      (param "prefix" (option string)) (result (result (list string) (error $error)))))
  ))
  (core func $get
    (canon lower (func $storage "get") (memory $mem) (realloc $realloc)))
  (core func $exists
    (canon lower (func $storage "exists") (memory $mem) (realloc $realloc)))
  (core func $set
    (canon lower (func $storage "set") (memory $mem) (realloc $realloc)))
  (core func $list-keys
    (canon lower (func $storage "list-keys") (memory $mem) (realloc $realloc)))
  (core module $main
    (import "host" "get" (func $host-get (param i32 i32 i32)))
    (import "host" "exists" (func $host-exists (param i32 i32 i32)))
    (import "host" "set" (func $host-set (param i32 i32 i32 i32 i32)))
    (import "host" "list-keys" (func $host-list-keys (param i32 i32 i32 i32)))
    (import "memory" "memory" (memory 64))
    (import "memory" "heap" (global $heap (mut i32)))

    ;; The address of the key of a call: the first 16 keys are used in turn.
    (func $key (param $i i32) (result i32)
      (i32.add (i32.const 0x1000) (i32.shl (i32.and (local.get $i) (i32.const 15)) (i32.const 4))))

    ;; Stores the keys: those in use with values of this size, the others with 100 bytes.
    (func $prepare (param $times i32) (param $bytes i32) (result i64)
      (local $i i32)
      (loop $next
        (call $host-set
          (i32.add (i32.const 0x1000) (i32.shl (local.get $i) (i32.const 4)))
          (i32.const 16) (i32.const 0x10000)
          (select (local.get $bytes) (i32.const 100) (i32.lt_u (local.get $i) (i32.const 16)))
          (i32.const 0x100))
        (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 99))))
      (call $host-set (i32.const 0x2000) (i32.const 16)
        (i32.const 0x2010) (i32.const 1) (i32.const 0x100))
      (select (i64.const -1) (i64.const 0) (i32.load8_u (i32.const 0x100))))

    (func $get (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-get (call $key (local.get $i))
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
            (call $host-exists (call $key (local.get $i))
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
            (call $host-set (call $key (local.get $i))
              (i32.const 16) (i32.const 0x10000) (local.get $bytes) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    (func $list-keys (param $times i32) (param $bytes i32) (result i64)
      (local $i i32) (local $sum i64)
      (loop $next
        (if (i32.lt_u (local.get $i) (local.get $times))
          (then
            (global.set $heap (i32.const 0x20000))
            (call $host-list-keys (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0x100))
            (if (i32.load8_u (i32.const 0x100)) (then (return (i64.const -1))))
            (local.set $sum (i64.add (local.get $sum) (i64.load32_u (i32.const 0x108))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next))))
      (local.get $sum))

    ;; In the order of the operations.
    (func $none (param i32 i32) (result i64) (i64.const -1))
    (type $calls (func (param i32 i32) (result i64)))
    (table 7 7 funcref)
    (elem (i32.const 0) $prepare $get $exists $set $none $none $list-keys)
    (func (export "run")
      (param $dialect i32) (param $operation i32) (param $times i32) (param $bytes i32)
      (result i64)
      (call_indirect (type $calls)
        (local.get $times) (local.get $bytes) (local.get $operation))))
  (core instance $main (instantiate $main
    (with "memory" (instance $memory))
    (with "host" (instance
      (export "get" (func $get))
      (export "exists" (func $exists))
      (export "set" (func $set))
      (export "list-keys" (func $list-keys))))))
  (func (export "run")
    (param "dialect" $dialect) (param "operation" $operation)
    (param "times" u32) (param "bytes" u32) (result u64)
    (canon lift (core func $main "run")))
