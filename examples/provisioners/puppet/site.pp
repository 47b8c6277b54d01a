$env = listener::node()['listener']['services']['shop']['environment']

file { '/etc/shop':
  ensure => directory,
  mode   => '0750',
}

file { '/etc/shop/shop.conf':
  content => Sensitive("DATABASE_URL=${env['DATABASE_URL']}\nPORT=${env['PORT']}\n"),
  mode    => '0640',
}
