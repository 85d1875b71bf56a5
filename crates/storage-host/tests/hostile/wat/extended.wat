  (import "airssys:storage/extended@0.1.0" (instance $extended
    (type $storage-error' (variant
      (case "not-found" string)
      (case "already-exists" string)
      (case "quota-exceeded")
      (case "invalid-key" string)
      (case "io-error" string)))
    (export "storage-error" (type $storage-error (eq $storage-error')))
    (type $usage' (record
      (field "used-bytes" u64) (field "quota-bytes" u64) (field "key-count" u64)))
    (export "storage-usage" (type $usage (eq $usage')))
    (type $error' (variant
      (case "no-such-store")
      (case "access-denied")
      (case "conflict" string)
      (case "storage" $storage-error)))
    (export "error" (type $error (eq $error')))
    (type $page' (record (field "keys" (list string)) (field "more" bool)))
    (export "page" (type $page (eq $page')))
    (type $versioned' (record (field "value" (list u8)) (field "revision" u64)))
    (export "versioned-value" (type $versioned (eq $versioned')))
    (type $expected' (variant
      (case "absent") (case "present") (case "revision" u64) (case "value" (list u8))))
    (export "expected" (type $expected (eq $expected')))
    (type $check' (record (field "key" string) (field "expected" $expected)))
    (export "check" (type $check (eq $check')))
    (type $write' (variant (case "set" (tuple string (list u8))) (case "delete" string)))
    (export "write" (type $write (eq $write')))
    (export "store" (type $store (sub resource)))
    (export "[static]store.open" (func
      (param "name" string) (result (result (own $store) (error $error)))))
    (export "[method]store.get-versioned" (func
      (param "self" (borrow $store)) (param "key" string)
      (result (result (option $versioned) (error $error)))))
    (export "[method]store.list-page" (func
      (param "self" (borrow $store)) (param "prefix" string) (param "after" (option string))
      (param "limit" u32) (result (result $page (error $error)))))
    (export "[method]store.get-many" (func
      (param "self" (borrow $store)) (param "keys" (list string))
      (result (result (list (option (list u8))) (error $error)))))
    (export "[method]store.create" (func
      (param "self" (borrow $store)) (param "key" string) (param "value" (list u8))
      (result (result u64 (error $error)))))
    (export "[method]store.update" (func
      (param "self" (borrow $store)) (param "key" string) (param "value" (list u8))
      (result (result u64 (error $error)))))
    (export "[method]store.commit" (func
      (param "self" (borrow $store)) (param "checks" (list $check)) (param "writes" (list $write))
      (result (result u64 (error $error)))))
    (export "[method]store.usage" (func
      (param "self" (borrow $store)) (result (result $usage (error $error)))))
  ))
  (alias export $extended "store" (type $extended-store))
