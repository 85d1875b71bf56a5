  ;; The memory, and a realloc that does what a test asks of it.
  (core module $memory
    (memory (export "memory") 16)
    (table (export "table") 1 funcref)
    (type $plain (func))
    (global $next (mut i32) (i32.const HEAP))
    (global $mode (mut i32) (i32.const 0))
    (global $after (mut i32) (i32.const 0))
    (global $target (mut i32) (i32.const 0))

    (func $allocate (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then
          (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
                (i32.shr_u (local.get $size) (i32.const 16)))))
            (then unreachable))))
      (local.get $at))
    (func $dive (param i32) (result i32)
      (i32.add (i32.const 1) (call $dive (i32.add (local.get 0) (i32.const 1)))))

    ;; From the call after the first `after` ones on, realloc misbehaves.
    (func (export "misbehave") (param $mode i32) (param $after i32)
      (global.set $mode (local.get $mode))
      (global.set $after (local.get $after)))

    (func (export "realloc")
      (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (if (global.get $after)
        (then (global.set $after (i32.sub (global.get $after) (i32.const 1))))
        (else
          ;; Traps.
          (if (i32.eq (global.get $mode) (i32.const 1)) (then unreachable))
          ;; Begins outside of the memory, and wraps.
          (if (i32.eq (global.get $mode) (i32.const 2)) (then (return (i32.const 0xfffffff8))))
          ;; Ends outside.
          (if (i32.eq (global.get $mode) (i32.const 3))
            (then
              (return (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8)))))
          ;; Is misaligned.
          (if (i32.eq (global.get $mode) (i32.const 4))
            (then
              (return (i32.add (i32.const 1)
                (call $allocate (i32.add (local.get $size) (i32.const 8)))))))
          ;; Never returns.
          (if (i32.eq (global.get $mode) (i32.const 5)) (then (loop $for-ever (br $for-ever))))
          ;; Calls storage.
          (if (i32.eq (global.get $mode) (i32.const 6))
            (then (call_indirect (type $plain) (i32.const 0))))
          ;; Gives the place of the answer itself, each time.
          (if (i32.eq (global.get $mode) (i32.const 7)) (then (return (i32.const ANSWER))))
          ;; Recurses without end.
          (if (i32.eq (global.get $mode) (i32.const 8)) (then (drop (call $dive (i32.const 0)))))
          ;; Takes all memory first.
          (if (i32.eq (global.get $mode) (i32.const 9))
            (then
              (loop $more
                (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 64)))))))
          ;; Gives the address 0.
          (if (i32.eq (global.get $mode) (i32.const 10)) (then (return (i32.const 0))))))
      (local.set $at (call $allocate (local.get $size)))
      (if (local.get $old)
        (then
          (memory.copy (local.get $at) (local.get $old)
            (select (local.get $old-size) (local.get $size)
              (i32.lt_u (local.get $old-size) (local.get $size))))))
      (local.get $at))

    ;; Where the test's own bytes go.
    (func (export "aim") (param i32) (global.set $target (local.get 0)))
    (func (export "aimed") (param i32 i32 i32 i32) (result i32) (global.get $target))
    ;; Where what the host has allocated ends.
    (func (export "next") (result i32) (global.get $next))
  )
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
  (alias core export $memory "aimed" (core func $aimed))
