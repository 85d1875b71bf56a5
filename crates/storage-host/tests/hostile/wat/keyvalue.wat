  (import "wasi:keyvalue/store@VERSION" (instance $DRAFT-store
    (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error')))
    (type $response' (record (field "keys" (list string)) (field "cursor" (option CURSOR))))
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
    (export "[method]bucket.delete" (func
      (param "self" (borrow $bucket)) (param "key" string) (result (result (error $error)))))
    (export "[method]bucket.exists" (func
      (param "self" (borrow $bucket)) (param "key" string) (result (result bool (error $error)))))
    (export "[method]bucket.list-keys" (func
      (param "self" (borrow $bucket)) (param "cursor" (option CURSOR))
      (result (result $response (error $error)))))
  ))
  (alias export $DRAFT-store "bucket" (type $DRAFT-bucket))
  (alias export $DRAFT-store "error" (type $DRAFT-error))
  (import "wasi:keyvalue/atomics@VERSION" (instance $DRAFT-atomics
    (alias outer 1 $DRAFT-bucket (type $bucket))
    (alias outer 1 $DRAFT-error (type $error))
    (export "increment" (func
      (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" DELTA)
      (result (result DELTA (error $error)))))
    SWAP
  ))
  (import "wasi:keyvalue/batch@VERSION" (instance $DRAFT-batch
    (alias outer 1 $DRAFT-bucket (type $bucket))
    (alias outer 1 $DRAFT-error (type $error))
    (export "get-many" (func
      (param "bucket" (borrow $bucket)) (param "keys" (list string))
      (result (result (list FOUND) (error $error)))))
    (export "set-many" (func
      (param "bucket" (borrow $bucket)) (param "key-values" (list (tuple string (list u8))))
      (result (result (error $error)))))
    (export "delete-many" (func
      (param "bucket" (borrow $bucket)) (param "keys" (list string))
      (result (result (error $error)))))
  ))
