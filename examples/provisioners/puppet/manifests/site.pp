# lookup() reads node.json; each service's environment is also in
# /etc/services.d/app-www.conf.
$datastores = lookup('configuration.datastores', Hash, 'first', {})

file { '/etc/app-www.ini':
  content   => Sensitive("database = ${datastores['PRIMARY_DATABASE_URL']}\n"),
  mode      => '0640',
}
