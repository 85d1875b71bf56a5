;; Reads several keys of its own store with one call, and returns how many have a value.
(component
  (import "airssys:storage/extended@0.1.0" (instance $extended
    (type $storage-error' (variant
      (case "not-found" string)
      (case "already-exists" string)
      (case "quota-exceeded")
      (case "invalid-key" string)
      (case "io-error" string)))
    (export "storage-error" (type $storage-error (eq $storage-error')))
    (type $error' (variant
      (case "no-such-store")
      (case "access-denied")
      (case "conflict" string)
      (case "storage" $storage-error)))
    (export "error" (type $error (eq $error')))
    (export "store" (type $store (sub resource)))
    (export "[static]store.open" (func
      (param "name" string) (result (result (own $store) (error $error)))))
    (export "[method]store.get-many" (func
      (param "self" (borrow $store)) (param "keys" (list string))
      (result (result (list (option (list u8))) (error $error)))))))

  (core module $memory
    (memory (export "memory") 64)
    (global $free (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $free)
      (global.set $free (i32.add (global.get $free)
        (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $realloc))
  (alias export $extended "[static]store.open" (func $open))
  (alias export $extended "[method]store.get-many" (func $get-many))
  (core func $open' (canon lower (func $open) (memory $mem) (realloc $realloc)))
  (core func $get-many' (canon lower (func $get-many) (memory $mem) (realloc $realloc)))

  (core module $guest
    (import "" "memory" (memory 1))
    (import "" "open" (func $open (param i32 i32 i32)))
    (import "" "get-many" (func $get-many (param i32 i32 i32 i32)))
    (func (export "get-many") (param $keys i32) (param $count i32) (result i32)
      (local $at i32) (local $found i32)
      (call $open (i32.const 0) (i32.const 0) (i32.const 64))
      (call $get-many (i32.load (i32.const 68)) (local.get $keys) (local.get $count) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then unreachable))
      (local.set $at (i32.load (i32.const 100)))
      (local.set $count (i32.load (i32.const 104)))
      (loop $next
        (if (local.get $count)
          (then
            (local.set $found (i32.add (local.get $found) (i32.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 12)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next))))
      (local.get $found)))
  (core instance $g (instantiate $guest (with "" (instance
    (export "memory" (memory $mem))
    (export "open" (func $open'))
    (export "get-many" (func $get-many'))))))
  (func (export "get-many") (param "keys" (list string)) (result u32)
    (canon lift (core func $g "get-many") (memory $mem) (realloc $realloc))))
