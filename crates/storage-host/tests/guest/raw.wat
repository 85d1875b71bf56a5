;; Passes on to the storage whatever addresses and lengths the test asks for.
;;
;; Each call returns the first byte of the answer, 0 for ok and 1 for an error,
;; plus 256 times the byte at which an option or the error's variant stands.
;; `text` and `bytes` give the text or the bytes that the last answer points to.
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
      (param "key" string) (param "value" $value) (result (result (error $error)))))
    (export "delete" (func (param "key" string) (result (result (error $error)))))
    (export "list-keys" (func
      (param "prefix" (option string)) (result (result (list string) (error $error)))))
  ))

  (core module $memory
    ;; The answers of calls stand at 16; the test's own data begins at 64 KiB, and
    ;; what the host allocates above the first 16 pages.
    (memory (export "memory") 16)
    (global $next (mut i32) (i32.const 0x100000))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
                (i32.shr_u (local.get $size) (i32.const 16)))))
            (then unreachable))))
      (local.get $at))
  )
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $get (canon lower (func $storage "get")
    (memory $mem) (realloc $realloc)))
  (core func $set (canon lower (func $storage "set")
    (memory $mem) (realloc $realloc)))
  (core func $delete (canon lower (func $storage "delete")
    (memory $mem) (realloc $realloc)))
  (core func $list (canon lower (func $storage "list-keys")
    (memory $mem) (realloc $realloc)))

  (core module $calls
    (import "memory" "memory" (memory 16))
    (import "storage" "get" (func $get (param i32 i32 i32)))
    (import "storage" "set" (func $set (param i32 i32 i32 i32 i32)))
    (import "storage" "delete" (func $delete (param i32 i32 i32)))
    (import "storage" "list" (func $list (param i32 i32 i32 i32)))
    ;; An answer leaves bytes as they are that say nothing.
    (func $forget
      (i64.store (i32.const 16) (i64.const 0))
      (i64.store (i32.const 24) (i64.const 0)))
    (func $answer (result i32)
      (i32.add (i32.load8_u (i32.const 16))
        (i32.mul (i32.const 256) (i32.load8_u (i32.const 20)))))
    (func (export "get") (param i32 i32) (result i32)
      (call $forget)
      (call $get (local.get 0) (local.get 1) (i32.const 16))
      (call $answer))
    (func (export "set") (param i32 i32 i32 i32) (result i32)
      (call $forget)
      (call $set (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))
      (call $answer))
    (func (export "delete") (param i32 i32) (result i32)
      (call $forget)
      (call $delete (local.get 0) (local.get 1) (i32.const 16))
      (call $answer))
    (func (export "list") (param i32 i32) (result i32)
      (call $forget)
      (call $list (i32.const 1) (local.get 0) (local.get 1) (i32.const 16))
      (i32.load8_u (i32.const 16)))
    ;; The number of keys in the last listing.
    (func (export "listed") (result i32) (i32.load (i32.const 24)))
    (func (export "fill") (param i32 i32 i32)
      (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "last") (result i32) (i32.const 24))
    ;; A table that grows without end, for the limit on tables.
    (table $table 1 funcref)
    (func (export "grow-table") (param i32) (result i32)
      (table.grow $table (ref.null func) (local.get 0)))
  )
  (core instance $calls (instantiate $calls
    (with "memory" (instance $memory))
    (with "storage" (instance
      (export "get" (func $get))
      (export "set" (func $set))
      (export "delete" (func $delete))
      (export "list" (func $list))))))

  (func (export "get") (param "key" u32) (param "len" u32) (result u32)
    (canon lift (core func $calls "get")))
  (func (export "set")
    (param "key" u32) (param "len" u32) (param "value" u32) (param "value-len" u32) (result u32)
    (canon lift (core func $calls "set")))
  (func (export "delete") (param "key" u32) (param "len" u32) (result u32)
    (canon lift (core func $calls "delete")))
  (func (export "list") (param "prefix" u32) (param "len" u32) (result u32)
    (canon lift (core func $calls "list")))
  (func (export "listed") (result u32) (canon lift (core func $calls "listed")))
  (func (export "fill") (param "at" u32) (param "byte" u32) (param "len" u32)
    (canon lift (core func $calls "fill")))
  (func (export "grow") (param "pages" u32) (result s32) (canon lift (core func $calls "grow")))
  (func (export "grow-table") (param "by" u32) (result s32)
    (canon lift (core func $calls "grow-table")))
  (func (export "text") (result string) (canon lift (core func $calls "last") (memory $mem)))
  (func (export "bytes") (result (list u8)) (canon lift (core func $calls "last") (memory $mem)))
)
