;; Calls storage in a loop: `gets` and `sets` with the number of calls.
;;
;; The key is at 64, 12 bytes. Values have 100 bytes, from 128. Results are written at 16, and
;; what the host allocates at 4096, where each call overwrites the last one's.
(component
  (import "airssys:core/storage@1.0.0" (instance $storage
    (type $error' (variant
      (case "not-found" string)
      (case "already-exists" string)
      (case "quota-exceeded")
      (case "invalid-key" string)
      (case "io-error" string)))
    (export "storage-error" (type $error (eq $error')))
    (type $value' (list u8))
    (export "storage-value" (type $value (eq $value')))
    (export "get" (func
      (param "key" string) (result (result (option $value) (error $error)))))
    (export "set" (func
      (param "key" string) (param "value" $value) (result (result (error $error)))))))

  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 64) "item-0000001")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $get (canon lower (func $storage "get") (memory $mem) (realloc $realloc)))
  (core func $set (canon lower (func $storage "set") (memory $mem) (realloc $realloc)))

  (core module $calls
    (import "memory" "memory" (memory 1))
    (import "storage" "get" (func $get (param i32 i32 i32)))
    (import "storage" "set" (func $set (param i32 i32 i32 i32 i32)))
    ;; Traps if a call failed.
    (func $check (if (i32.load8_u (i32.const 16)) (then unreachable)))
    (func (export "gets") (param $left i32)
      (loop $again
        (call $get (i32.const 64) (i32.const 12) (i32.const 16))
        (call $check)
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
    (func (export "sets") (param $left i32)
      (loop $again
        (call $set (i32.const 64) (i32.const 12) (i32.const 128) (i32.const 100) (i32.const 16))
        (call $check)
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
  (core instance $calls (instantiate $calls
    (with "memory" (instance $memory))
    (with "storage" (instance (export "get" (func $get)) (export "set" (func $set))))))

  (func (export "gets") (param "calls" u32) (canon lift (core func $calls "gets")))
  (func (export "sets") (param "calls" u32) (canon lift (core func $calls "sets"))))
