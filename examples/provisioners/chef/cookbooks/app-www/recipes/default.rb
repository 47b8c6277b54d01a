# What the node's services require is in the attributes, from node.json; each
# service's environment is also in /etc/services.d/app-www.conf.
datastores = node["configuration"]["datastores"]

file "/etc/app-www.ini" do
  content "database = #{datastores["PRIMARY_DATABASE_URL"]}\n"
  mode "0640"
  sensitive true
end
