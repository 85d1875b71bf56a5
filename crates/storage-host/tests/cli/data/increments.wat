;; Adds 1 to the key `n` TIMES times, and traps if the store fails. Tests replace the word by
;; a number.
(component
  (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
    (type $variant (variant
      (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $variant)))
    (export "bucket" (type $bucket (sub resource)))
    (export "open" (func (param "identifier" string)
      (result (result (own $bucket) (error $error)))))))
  (alias export $store "error" (type $error))
  (alias export $store "bucket" (type $bucket))
  (import "wasi:keyvalue/atomics@0.2.0-draft2" (instance $atomics
    (alias outer 1 $error (type $outer-error))
    (alias outer 1 $bucket (type $outer-bucket))
    (export "error" (type $own-error (eq $outer-error)))
    (export "bucket" (type $own-bucket (eq $outer-bucket)))
    (export "increment" (func
      (param "bucket" (borrow $own-bucket)) (param "key" string) (param "delta" s64)
      (result (result s64 (error $own-error)))))))

  (core module $memory
    (memory (export "memory") 1)
    ;; The text of an error is overwritten, and never read.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $store "open")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core func $increment (canon lower (func $atomics "increment")
    (memory $memory "memory") (realloc (func $memory "realloc"))))
  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "open" (func $open (param i32 i32 i32)))
    (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))
    (data (i32.const 0) "n")
    (func (export "run") (result i32) (local $left i32)
      (call $open (i32.const 0) (i32.const 0) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (unreachable)))
      (local.set $left (i32.const TIMES))
      (loop $again
        (call $increment
          (i32.load (i32.const 68)) (i32.const 0) (i32.const 1) (i64.const 1) (i32.const 96))
        (if (i32.load8_u (i32.const 96)) (then (unreachable)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (i32.const 0)))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "open" (func $open))
    (export "increment" (func $increment))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
