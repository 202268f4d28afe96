"""What a pod becomes when it joins the mesh: decide, then settings, then the patch."""
