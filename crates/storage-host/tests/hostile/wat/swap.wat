    (export "cas" (type $cas (sub resource)))
    (type $cas-error' (variant (case "store-error" $error) (case "cas-failed" (own $cas))))
    (export "cas-error" (type $cas-error (eq $cas-error')))
    (export "[static]cas.new" (func
      (param "bucket" (borrow $bucket)) (param "key" string)
      (result (result (own $cas) (error $error)))))
    (export "[method]cas.current" (func
      (param "self" (borrow $cas)) (result (result (option (list u8)) (error $error)))))
    (export "swap" (func
      (param "cas" (own $cas)) (param "value" (list u8)) (result (result (error $cas-error)))))
