  ;; The memory of the guest. Its `realloc` takes the next bytes of a heap, and the guest
  ;; empties the heap before each call.
  (core module $memory
    (memory (export "memory") 64)
    (global $heap (export "heap") (mut i32) (i32.const 0x20000))
    (func (export "realloc")
      (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (local.get $at))
    ;; Keys of 16 bytes each.
    (data (i32.const 0x1000) "KEYS")
    (data (i32.const 0x2000) "user/visits/0001")
    (data (i32.const 0x2010) "0"))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  (type $dialect' (enum "core" "extended" "draft" "draft2"))
  (export $dialect "dialect" (type $dialect'))
  (type $operation'
    (enum "prepare" "get" "exists" "set" "increment" "get-many" "list-keys"))
  (export $operation "operation" (type $operation'))
